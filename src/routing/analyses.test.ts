/** Each analysis on traces small enough to count by hand. */
import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { memoryTrace } from "../formats/trace.ts";
import { churnOf } from "../train/probe.ts";
import { createRandom, shuffledOrder, uniform } from "../util/random.ts";
import { analyse } from "./analysis.ts";
import { coactivation } from "./coactivation.ts";
import { crossLayerRouting } from "./crossLayer.ts";
import { domainSpecialisation, mutualInformation, specialisationTest } from "./domains.ts";
import { expertCounting } from "./expertCounts.ts";
import { loadBalance, loadChange } from "./load.ts";
import { weightMass } from "./mass.ts";
import { routerSaturation, routingChurn } from "./saturation.ts";
import { tokenIdRouting } from "./tokenIds.ts";
import { vocabularySpecialisation } from "./vocabulary.ts";

const none = { resamples: 0 };

describe("domain specialisation", () => {
  // Expert 3 is never used; the last token of "b" has one expert only.
  const trace = traceOf(
    [
      [
        {
          sequence: 0,
          source: 0,
          tokens: tokensOf([
            [0, 1],
            [0, 2],
            [1, 0],
            [2, 1],
          ]),
        },
        { sequence: 1, source: 1, tokens: tokensOf([[2, 1], [2]]) },
      ],
    ],
    { numExperts: 4, slots: 2, sources: ["a", "b", "unused"] },
  );

  it("is the share of a domain's tokens that have the expert", async () => {
    const [both, first] = await analyse(trace, [domainSpecialisation(none), domainSpecialisation({ ...none, k: 1 })]);
    expect(both).toEqual({
      analysis: "domains",
      definition:
        "Share of a domain's tokens that have the expert among their first k (paper, equation 7). A domain is a source of the trace's text.",
      k: 2,
      layers: [0],
      tokens: 6,
      // Of the 12 slots one is empty.
      uniform: 11 / 24,
      domains: [
        { name: "a", tokens: 4, layers: [{ layer: 0, shares: [0.75, 0.75, 0.5, 0] }] },
        { name: "b", tokens: 2, layers: [{ layer: 0, shares: [0, 0.5, 1, 0] }] },
      ],
    });
    expect(first).toMatchObject({
      k: 1,
      uniform: 0.25,
      domains: [{ layers: [{ shares: [0.5, 0.25, 0.25, 0] }] }, { layers: [{ shares: [0, 0, 1, 0] }] }],
    });
  });

  it("has an interval that follows from the seed, and contains the share", async () => {
    const many = traceOf(
      [[0, 1, 2, 3].map((sequence) => ({ sequence, tokens: tokensOf(sequence % 2 === 0 ? [[0], [0]] : [[0], [1]]) }))],
      { numExperts: 2, slots: 1 },
    );
    const run = async (seed: number) => {
      const [{ domains }] = await analyse(many, [domainSpecialisation({ seed, resamples: 400 })]);
      return domains[0]!.layers[0]!;
    };
    const layer = await run(1);
    // Sequences have 2 or 1 of their 2 tokens at expert 0: a sample has between 1/2 and all.
    expect(layer.shares).toEqual([0.75, 0.25]);
    expect(layer.intervals).toEqual([
      [0.5, 1],
      [0, 0.5],
    ]);
    expect(await run(1)).toEqual(layer);
  });
});

describe("specialisation test", () => {
  const split = (experts: (source: number) => number) =>
    traceOf(
      [
        Array.from({ length: 16 }, (_, sequence) => ({
          sequence,
          source: sequence % 2,
          tokens: tokensOf([[experts(sequence % 2)]]),
        })),
      ],
      { numExperts: 2, slots: 1, sources: ["a", "b"] },
    );

  it("finds experts that know their domain", async () => {
    const [result] = await analyse(
      split((source) => source),
      [specialisationTest({ seed: 3, resamples: 199 })],
    );
    expect(result).toMatchObject({ domains: ["a", "b"], shuffles: 199, k: 1, tokens: 16 });
    const [layer] = result.perLayer;
    expect(layer!.information).toBeCloseTo(Math.log(2), 12);
    expect(layer!.shuffledHigh).toBeLessThan(0.3);
    // Of 12,870 ways to label 16 sequences two are as good.
    expect(layer!.p).toBe(1 / 200);
    expect(result.mean).toEqual({ ...result.mean, information: layer!.information, p: 1 / 200 });
  });

  it("finds nothing where every domain has the same expert, or there is one domain", async () => {
    const [same] = await analyse(
      split(() => 1),
      [specialisationTest({ resamples: 20 })],
    );
    expect(same.perLayer).toEqual([{ layer: 0, information: 0, shuffledMean: 0, shuffledHigh: 0, p: 1 }]);
    const one = traceOf([[{ tokens: tokensOf([[0], [1]]) }]], { numExperts: 2, slots: 1 });
    const [result] = await analyse(one, [specialisationTest({ resamples: 20 })]);
    expect(result.mean.p).toBe(1);
  });

  it("measures information in nats", () => {
    expect(
      mutualInformation([
        [1, 1],
        [1, 1],
      ]),
    ).toBe(0);
    expect(
      mutualInformation([
        [3, 0],
        [0, 1],
      ]),
    ).toBeCloseTo(-(0.75 * Math.log(0.75) + 0.25 * Math.log(0.25)), 12);
    expect(
      mutualInformation([
        [0, 0],
        [0, 0],
      ]),
    ).toBe(0);
  });
});

describe("load", () => {
  it("is even, one-sided or in between, layer by layer", async () => {
    const layered = traceOf([[{ tokens: [0, 1, 2, 3].map((id) => ({ id, experts: [[id], [0], [id % 2]] })) }]], {
      numExperts: 4,
      slots: 1,
      layers: [0, 2, 5],
    });
    const [load] = await analyse(layered, [loadBalance(none)]);
    expect(load).toMatchObject({ analysis: "load", k: 1, layers: [0, 2, 5], tokens: 4 });
    expect(load.perLayer).toEqual([
      { layer: 0, shares: [0.25, 0.25, 0.25, 0.25], entropy: 1, busiest: 1, dead: 0 },
      { layer: 2, shares: [1, 0, 0, 0], entropy: 0, busiest: 4, dead: 3 },
      { layer: 5, shares: [0.5, 0.5, 0, 0], entropy: 0.5, busiest: 2, dead: 2 },
    ]);
  });

  it("changes with adaptation", async () => {
    const counts = (experts: number[][]) => {
      const trace = traceOf([[{ tokens: tokensOf(experts) }]], { numExperts: 3, slots: 1 });
      const counter = expertCounting().start(trace);
      return (async () => {
        for await (const chunk of trace.chunks()) counter.add(chunk);
        return counter.counts();
      })();
    };
    const before = { name: "base", counts: await counts([[0], [0], [1], [1]]) };
    const after = { name: "tuned", counts: await counts([[0], [2]]) };
    expect(loadChange(before, after)).toMatchObject({
      before: "base",
      after: "tuned",
      tokens: 4,
      tokensAfter: 2,
      perLayer: [{ layer: 0, before: [0.5, 0.5, 0], after: [0.5, 0, 0.5], moved: 0.5 }],
    });
    const other = { name: "wide", counts: { ...after.counts, numExperts: 8 } };
    expect(() => loadChange(before, other)).toThrow(
      "load-change: base has k 1, 3 experts, layers 0, wide has k 1, 8 experts, layers 0",
    );
  });
});

describe("co-activation", () => {
  const trace = traceOf([[{ tokens: tokensOf([[0, 1, 2], [2, 0, 1], [1, 0], [3]]) }]], { numExperts: 5, slots: 3 });

  it("counts all pairs of a token", async () => {
    const [{ perLayer, ...head }] = await analyse(trace, [coactivation()]);
    expect(head).toMatchObject({ analysis: "coactivation", k: 3, layers: [0], tokens: 4, pairs: "pairs" });
    const none = Number.NaN;
    expect(perLayer).toEqual([
      {
        layer: 0,
        tokensOf: [3, 3, 2, 1, 0],
        shares: [
          [1, 1, 2 / 3, 0, 0],
          [1, 1, 2 / 3, 0, 0],
          [1, 1, 1, 0, 0],
          [0, 0, 0, 1, 0],
          [none, none, none, none, none],
        ],
      },
    ]);
  });

  it("counts neighbours in rank only, as released, where that is asked", async () => {
    const [{ perLayer }] = await analyse(trace, [coactivation({ pairs: "adjacent-ranks" })]);
    // 0-1 in the first and third token (and 1-2), 2-0 and 0-1 in the second.
    expect(perLayer[0]!.shares.slice(0, 3)).toEqual([
      [1, 1, 1 / 3, 0, 0],
      [1, 1, 1 / 3, 0, 0],
      [1 / 2, 1 / 2, 1, 0, 0],
    ]);
  });

  it("is the same count for every k, those that are counted in squares included", async () => {
    const random = createRandom(3, "coactivation");
    const experts = Array.from({ length: 9 }, (_, expert) => expert);
    // From none to eight experts, which fill the first slots.
    const tokens = Array.from({ length: 40 }, () => {
      const order = shuffledOrder(9, random);
      return experts.map((expert) => order[expert]!).slice(0, Math.floor(uniform(random) * 9));
    });
    const many = traceOf([[{ tokens: tokensOf(tokens) }]], { numExperts: 9, slots: 8 });
    for (const k of [2, 3, 4, 5, 7, 8]) {
      const first = tokens.map((token) => token.slice(0, k));
      const tokensWith = (...wanted: number[]) =>
        first.filter((token) => wanted.every((expert) => token.includes(expert))).length;
      const [{ perLayer }] = await analyse(many, [coactivation({ k })]);
      expect(perLayer[0]!.tokensOf).toEqual(experts.map((i) => tokensWith(i)));
      expect(perLayer[0]!.shares).toEqual(experts.map((i) => experts.map((j) => tokensWith(i, j) / tokensWith(i))));
    }
  });

  it("has nothing but the diagonal at k = 1", async () => {
    const [{ perLayer }] = await analyse(trace, [coactivation({ k: 1 })]);
    expect(perLayer[0]!.tokensOf).toEqual([1, 1, 1, 1, 0]);
    expect(perLayer[0]!.shares[0]).toEqual([1, 0, 0, 0, 0]);
  });
});

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

describe("cross-layer routing", () => {
  const trace = traceOf(
    [
      [
        {
          sequence: 0,
          source: 0,
          tokens: [
            [
              [0, 1],
              [1, 0],
            ],
            [
              [0, 1],
              [1, 2],
            ],
            [[2], [0, 1]],
          ].map((experts, id) => ({ id, experts })),
        },
        {
          sequence: 1,
          source: 1,
          tokens: [
            {
              id: 3,
              experts: [
                [1, 2],
                [2, 1],
              ],
            },
          ],
        },
      ],
    ],
    { numExperts: 3, slots: 2, layers: [0, 7], sources: ["a", "b"] },
  );

  it("follows the first expert from layer to layer", async () => {
    const [result] = await analyse(trace, [crossLayerRouting()]);
    expect(result).toMatchObject({ analysis: "cross-layer", k: 1, layers: [0, 7], tokens: 4, steps: [[0, 7]] });
    expect(result.domains).toEqual([
      {
        name: "a",
        tokens: 3,
        perStep: [
          {
            shares: [
              [0, 2 / 3, 0],
              [0, 0, 0],
              [1 / 3, 0, 0],
            ],
            strongest: [0, 1, 2 / 3],
          },
        ],
      },
      {
        name: "b",
        tokens: 1,
        perStep: [
          {
            shares: [
              [0, 0, 0],
              [0, 0, 1],
              [0, 0, 0],
            ],
            strongest: [1, 2, 1],
          },
        ],
      },
    ]);
  });

  it("pairs all of the first k, or those of equal rank, as released", async () => {
    const [all, equal] = await analyse(trace, [
      crossLayerRouting({ k: 2 }),
      crossLayerRouting({ k: 2, paths: "equal-ranks" }),
    ]);
    // Tokens of "a": {0, 1} x {1, 0}, {0, 1} x {1, 2}, {2} x {0, 1}.
    expect(all.domains[0]!.perStep[0]!.shares).toEqual([
      [1 / 3, 2 / 3, 1 / 3],
      [1 / 3, 2 / 3, 1 / 3],
      [1 / 3, 1 / 3, 0],
    ]);
    expect(equal.domains[0]!.perStep[0]!.shares).toEqual([
      [0, 2 / 3, 0],
      [1 / 3, 0, 1 / 3],
      [1 / 3, 0, 0],
    ]);
  });
});

describe("token ids", () => {
  it("counts ids by the share that an expert has of them", async () => {
    const trace = traceOf(
      [
        [
          { sequence: 0, source: 0, tokens: tokensOf([[0], [0], [0], [1], [1], [1]], [5, 5, 5, 5, 6, 7]) },
          { sequence: 1, source: 1, tokens: tokensOf([[1], [1]], [5, 5]) },
        ],
      ],
      { numExperts: 2, slots: 1, sources: ["a", "b"] },
    );
    const [result] = await analyse(trace, [tokenIdRouting({ leastOccurrences: 2, bins: 4 })]);
    expect(result).toMatchObject({ uniform: 0.5, leastOccurrences: 2, tokens: 8, k: 1, layers: [0] });
    // Id 5 of "a" goes to expert 0 three times of four, that of "b" never.
    expect(result.histograms).toEqual([
      { layer: 0, expert: 0, domain: "a", ids: 1, counts: [0, 0, 0, 1], mean: 0.75 },
      { layer: 0, expert: 0, domain: "b", ids: 1, counts: [1, 0, 0, 0], mean: 0 },
    ]);
    await expect(analyse(trace, [tokenIdRouting({ experts: [2] })])).rejects.toThrow(
      "experts: 2, the model has 0 to 1",
    );
  });
});

describe("weight mass", () => {
  const tokens = [
    { id: 0, experts: [[1, 0]], weights: [[0.5, 0.25]], probabilities: [[0.25, 0.5, 0.25]] },
    { id: 1, experts: [[2]], weights: [[1]], probabilities: [[0, 0, 1]] },
  ];
  const trace = traceOf([[{ tokens }]], { numExperts: 3, slots: 2 });

  it("adds up what the first experts have of the router's probability, or their weights", async () => {
    const [weights, probabilities] = await analyse(trace, [weightMass(), weightMass({ of: "probabilities" })]);
    expect(weights.perLayer).toEqual([{ layer: 0, cumulative: [0.75, 0.875] }]);
    const entropy = (0.5 * Math.log(2) + 2 * 0.25 * Math.log(4)) / 2;
    expect(probabilities.perLayer).toEqual([{ layer: 0, cumulative: [0.75, 0.875], entropy }]);
    expect([weights.of, probabilities.of]).toEqual(["weights", "probabilities"]);
  });
});

describe("saturation and churn", () => {
  const named = (name: string, experts: number[][], step?: number) => ({
    name,
    trace: traceOf(
      [[{ tokens: tokensOf(experts.slice(0, 2)) }], [{ sequence: 1, tokens: tokensOf(experts.slice(2), [2, 3]) }]],
      {
        numExperts: 4,
        slots: 2,
        ...(step === undefined ? {} : { step }),
      },
    ),
  });
  const early = named(
    "early",
    [
      [0, 1],
      [2, 3],
      [0, 1],
      [0, 1],
    ],
    10,
  );
  const late = named("late", [[1, 0], [2, 1], [2, 3], [0]], 20);

  it("is the share of the final experts that a checkpoint has too", async () => {
    const both = await routerSaturation([early, late], none);
    // Shared: 2 of 2, 1 of 2, 0 of 2, 1 of 1.
    expect(both).toEqual({
      analysis: "saturation",
      definition:
        "Mean over tokens of the share of the final checkpoint's first k experts that are among the checkpoint's own first k for the same token (paper, equation 5).",
      k: 2,
      layers: [0],
      tokens: 4,
      final: "late",
      random: 0.5,
      checkpoints: [{ name: "early", step: 10, shares: [4 / 7] }],
    });
    const first = await routerSaturation([early, late], { ...none, k: 1 });
    expect(first).toMatchObject({ k: 1, random: 0.25, checkpoints: [{ shares: [2 / 4] }] });
  });

  it("is 1 for a trace and itself", async () => {
    const { checkpoints } = await routerSaturation([late, late], { resamples: 50 });
    expect(checkpoints).toMatchObject([{ shares: [1], intervals: [[1, 1]] }]);
  });

  it("counts changes from trace to trace as the monitor of training does", async () => {
    const { changes, k } = await routingChurn([early, late, late], none);
    expect(k).toBe(2);
    // Changed: the second, third and fourth token; new: 1, then 2 and 3, of 7.
    expect(changes).toEqual([
      { before: "early", now: "late", tokens: { shares: [3 / 4] }, slots: { shares: [3 / 7] } },
      { before: "late", now: "late", tokens: { shares: [0] }, slots: { shares: [0] } },
    ]);
    const sets = [early, late].map(({ name }) =>
      Int32Array.from(name === "early" ? [0, 1, 2, 3, 0, 1, 0, 1] : [0, 1, 1, 2, 2, 3, -1, 0]),
    );
    expect(churnOf(sets[0]!, sets[1]!, 4)).toEqual({ tokens: 3 / 4, slots: 3 / 7 });
  });

  it("refuses traces of different texts, of different shapes, and a single one", async () => {
    const refusal = async (...traces: Parameters<typeof routerSaturation>[0]) => {
      try {
        await routerSaturation(traces);
        return "none";
      } catch (error) {
        return (error as Error).message;
      }
    };
    const other = {
      name: "other",
      trace: traceOf([[{ tokens: tokensOf([[0], [0], [0], [0]], [0, 1, 2, 9]) }]], { numExperts: 4, slots: 1 }),
    };
    const short = { name: "short", trace: traceOf([[{ tokens: tokensOf([[0]]) }]], { numExperts: 4, slots: 1 }) };
    const wide = {
      name: "wide",
      trace: traceOf([[{ tokens: tokensOf([[0], [0], [0], [0]]) }]], { numExperts: 5, slots: 1 }),
    };
    const deep = {
      name: "deep",
      trace: traceOf([[{ tokens: [0, 1, 2, 3].map((id) => ({ id, experts: [[0], [0]] })) }]], {
        numExperts: 4,
        slots: 1,
        layers: [0, 1],
      }),
    };
    expect([
      await refusal(early, other),
      await refusal(early, short),
      await refusal(early, wide),
      await refusal(early, deep),
      await refusal(early),
    ]).toEqual([
      "compare: token 3 is id 3 in early and id 9 in other, expected traces of the same text",
      "compare: early has 4 tokens, short has 1 tokens",
      "compare: early has 4 experts, wide has 5 experts",
      "compare: early has layers 0, deep has layers 0, 1",
      "compare: 1 traces, expected at least 2 of the same text",
    ]);
  });
});

describe("analyse", () => {
  const trace = traceOf([[{ tokens: tokensOf([[0]]) }], [{ position: 1, tokens: tokensOf([[1], [1]]) }]], {
    numExperts: 2,
    slots: 1,
  });

  it("reads a trace once and says how far it is", async () => {
    const progress: unknown[] = [];
    let reads = 0;
    const chunks = (selection?: object) => {
      reads += 1;
      return trace.chunks(selection);
    };
    const watched = { ...trace, chunks };
    const [one, , load] = await analyse(watched, [coactivation(), domainSpecialisation(none), loadBalance(none)], {
      onProgress: (now) => progress.push(now),
    });
    expect([one.tokens, load.perLayer[0]!.shares]).toEqual([3, [1 / 3, 2 / 3]]);
    expect(reads).toBe(1);
    expect(progress).toEqual([
      { tokens: 1, of: 3 },
      { tokens: 3, of: 3 },
    ]);
  });

  it("works on one token, and on none", async () => {
    const single = traceOf([[{ tokens: tokensOf([[1]]) }]], { numExperts: 2, slots: 1 });
    const [domains, test] = await analyse(single, [domainSpecialisation(), specialisationTest()]);
    expect(domains.domains).toEqual([{ name: "text", tokens: 1, layers: [{ layer: 0, shares: [0, 1] }] }]);
    expect(test.mean).toMatchObject({ information: 0, p: 1 });
    const empty = traceOf([], { numExperts: 2, slots: 1 });
    const [none, load, paths] = await analyse(empty, [domainSpecialisation(), loadBalance(), crossLayerRouting()]);
    expect([none.tokens, none.domains, load.perLayer[0]!.entropy, paths.domains]).toEqual([0, [], 0, []]);
  });

  it("refuses what a trace does not have", async () => {
    const fault = (work: Promise<unknown>) => work.then(String, (error: Error) => error.message);
    const bare = memoryTrace({ ...trace.header, columns: ["ids", "experts"] }, []);
    expect([
      await fault(analyse(trace, [loadBalance({ layers: [0, 9] })])),
      await fault(analyse(trace, [loadBalance({ k: 2 })])),
      await fault(analyse(trace, [loadBalance({ resamples: -1 })])),
      await fault(analyse(bare, [weightMass()])),
    ]).toEqual([
      "layers: 9, the trace has 0",
      "k: 2, expected a whole number from 1 to 1, the experts of a token in the trace",
      "resamples: -1, expected a whole number from 0 to 100000",
      "trace: it has no weights, only ids, experts",
    ]);
  });

  it("stops when it is told to", async () => {
    const stop = new AbortController();
    const work = analyse(trace, [loadBalance()], { signal: stop.signal, onProgress: () => stop.abort() });
    await expect(work).rejects.toThrow("aborted");
  });
});
