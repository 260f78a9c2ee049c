import { describe, expect, it } from "vitest";
import { traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import { vocabularySpecialisation } from "./vocabulary.ts";

describe("vocabulary specialisation", () => {
  // Id 7 is seen three times, 8 twice, 9 once. Sequence 1 goes on in a second chunk.
  const run = (sequence: number, position: number, tokens: [id: number, predicted: number, experts: number[]][]) => ({
    sequence,
    position,
    tokens: tokens.map(([id, predicted, experts]) => ({ id, predicted, experts: [experts] })),
  });
  const trace = traceOf(
    [
      [
        run(0, 0, [
          [7, 8, [0, 1]],
          [8, 9, [1, 2]],
        ]),
        run(1, 0, [[7, 7, [0, 2]]]),
      ],
      [
        run(2, 0, [[8, 7, [2, 1]]]),
        run(1, 1, [
          [9, 8, [2, 0]],
          [7, 7, [1, 0]],
        ]),
      ],
    ],
    { numExperts: 4, slots: 2 },
  );
  const all = { leastOccurrences: 1 };

  it("is the largest share that an expert has of an id's tokens", async () => {
    const [first, both] = await analyse(trace, [
      vocabularySpecialisation({ ...all, k: 1 }),
      vocabularySpecialisation({ ...all, top: 1 }),
    ]);
    // At k = 1, id 7: experts 0, 0, 1; id 8: experts 1, 2, of which 1 is the first of equals; id 9: expert 2.
    expect(first.perLayer).toEqual([
      {
        layer: 0,
        ids: 3,
        tokens: 6,
        specialisation: (2 + 1 + 1) / 6,
        experts: [
          { ids: 1, specialisation: 2 / 3, top: [{ id: 7, share: 2 / 3, occurrences: 3 }] },
          { ids: 1, specialisation: 1 / 2, top: [{ id: 8, share: 1 / 2, occurrences: 2 }] },
          { ids: 1, specialisation: 1, top: [{ id: 9, share: 1, occurrences: 1 }] },
          { ids: 0, specialisation: Number.NaN, top: [] },
        ],
      },
    ]);
    // At k = 2 expert 0 has all of id 7 and is the first of equals for id 9; experts 1 and 2 have all of id 8.
    expect(both.perLayer[0]).toMatchObject({
      specialisation: 1,
      experts: [{ ids: 2, top: [{ id: 7 }] }, { ids: 1 }, { ids: 0 }, { ids: 0 }],
    });
    expect(first.definition).toBe(
      "Of the tokens with one input id, the share that has an expert among the first k (paper, equation 8); specialisation is the mean over all ids of each one's largest share, weighted by occurrences.",
    );
  });

  it("weighs ids alike, those that occur once included, as released, where that is asked", async () => {
    const [released] = await analyse(trace, [vocabularySpecialisation({ k: 1, mean: "released" })]);
    expect(released.perLayer[0]!.specialisation).toBeCloseTo((2 / 3 + 1 / 2 + 1) / 3, 12);
    expect(released).toMatchObject({ mean: "released", leastOccurrences: 1 });
  });

  it("leaves rare ids out", async () => {
    const [result, nothing] = await analyse(trace, [
      vocabularySpecialisation({ k: 1, leastOccurrences: 2 }),
      vocabularySpecialisation({ k: 1 }),
    ]);
    expect(result.perLayer[0]).toMatchObject({ ids: 2, tokens: 5, specialisation: 3 / 5 });
    expect(nothing.perLayer[0]).toMatchObject({ ids: 0, tokens: 0, specialisation: Number.NaN });
    await expect(analyse(trace, [vocabularySpecialisation({ leastOccurrences: 0 })])).rejects.toThrow(
      "leastOccurrences: 0, expected a whole number from 1 on",
    );
  });

  it("goes by the predicted and by the true next id", async () => {
    const [predicted, truth] = await analyse(trace, [
      vocabularySpecialisation({ ...all, k: 1, kind: "predicted" }),
      vocabularySpecialisation({ ...all, k: 1, kind: "truth" }),
    ]);
    // Predicted 8: experts 0, 2; 9: 1; 7: 0, 2, 1.
    expect(predicted.tokens).toBe(6);
    expect(predicted.perLayer[0]!.specialisation).toBeCloseTo((1 + 1 + 1) / 6, 12);
    // Next: 7 -> 8 in sequence 0; 7 -> 9 over the chunks' border and 9 -> 7 in sequence 1. Last tokens have none.
    expect(truth.tokens).toBe(3);
    expect(truth.perLayer[0]!.experts.map(({ top }) => top.map(({ id }) => id))).toEqual([[8, 9], [], [7], []]);
  });
});
