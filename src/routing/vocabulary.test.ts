import { describe, expect, it } from "vitest";
import { traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import {
  type VocabularyCounts,
  type VocabularyResult,
  vocabularyShares,
  vocabularySpecialisation,
} from "./vocabulary.ts";

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
  const all = { leastOccurrences: 1, resamples: 0 };

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

  it("has intervals over sequences, with each id's busiest expert as it is", async () => {
    const two = traceOf(
      [
        [
          run(0, 0, [
            [7, 8, [0]],
            [7, 8, [0]],
          ]),
          run(1, 0, [
            [7, 8, [0]],
            [7, 9, [1]],
            [9, 8, [1]],
          ]),
        ],
      ],
      { numExperts: 2, slots: 1 },
    );
    const [ids, often, alike] = await analyse(two, [
      vocabularySpecialisation({ leastOccurrences: 1 }),
      vocabularySpecialisation({ leastOccurrences: 2 }),
      vocabularySpecialisation({ mean: "released" }),
    ]);
    // Of the second sequence alone expert 0 has one of two tokens of id 7, and expert 1 the one of id 9.
    expect(ids.perLayer[0]).toMatchObject({ specialisation: 4 / 5, interval: [2 / 3, 1] });
    expect(ids.overall).toEqual({ specialisation: 4 / 5, interval: [2 / 3, 1] });
    expect(ids.definition).toMatch(
      /\. Intervals: 95 %, bootstrap over 2 sequences, with the ids and each one's busiest expert as they are\.$/,
    );
    expect(often.perLayer[0]).toMatchObject({ specialisation: 3 / 4, interval: [1 / 2, 1] });
    expect(alike.overall).toEqual({ specialisation: 7 / 8 });
  });

  it("makes intervals of a sample narrower by the root of its share of the tokens", () => {
    // 40 sampled sequences of two tokens of id 0, which all, or every second, have expert 0 and so 3 of 4 tokens.
    const sequences = Array.from({ length: 40 }, (_, sequence) => [
      { ids: Int32Array.of(0, 0), experts: Int8Array.of(0, sequence % 2) },
    ]);
    const counts = (times: number, numSequences: number, complete: boolean): VocabularyCounts => ({
      kind: "input",
      k: 1,
      layers: [0],
      numExperts: 2,
      ids: {
        ids: Int32Array.of(0),
        occurrences: Float64Array.of(80 * times),
        rows: Int32Array.of(0),
        tables: [Float64Array.of(60 * times, 20 * times)],
        width: 2,
      },
      sample: { sequences: sequences.slice(0, numSequences), complete },
    });
    const half = ({ perLayer }: VocabularyResult) => {
      const [low, high] = perLayer[0]!.interval!;
      return [0.75 - low, high - 0.75];
    };
    const whole = vocabularyShares(counts(1, 40, true));
    const sample = vocabularyShares(counts(4, 40, false));
    expect(sample.definition).toContain("bootstrap over 40 sequences, a sample of all, with the ids");
    for (const [side, width] of half(sample).entries()) expect(width).toBeCloseTo(half(whole)[side]! / 2, 12);
    // Too few for an interval.
    expect(vocabularyShares(counts(4, 19, false)).overall).toEqual({ specialisation: 0.75 });
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
