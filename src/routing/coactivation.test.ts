import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { createRandom, shuffledOrder, uniform } from "../util/random.ts";
import { analyse } from "./analysis.ts";
import { coactivation } from "./coactivation.ts";

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
        // Of one sequence there are no intervals.
        strongest: [
          { expert: 0, other: 1, share: 1 },
          { expert: 1, other: 0, share: 1 },
          { expert: 2, other: 0, share: 1 },
          { expert: 2, other: 1, share: 1 },
          { expert: 0, other: 2, share: 2 / 3 },
          { expert: 1, other: 2, share: 2 / 3 },
        ],
        // Of experts 0, 1, 2 and 3.
        meanLargest: 3 / 4,
      },
    ]);
  });

  it("gives the strongest pairs and the mean of the largest shares intervals over sequences", async () => {
    const two = traceOf(
      [
        [
          {
            sequence: 0,
            tokens: tokensOf([
              [0, 1],
              [1, 0],
            ]),
          },
          {
            sequence: 1,
            tokens: tokensOf([
              [0, 1],
              [0, 2],
            ]),
          },
        ],
      ],
      { numExperts: 4, slots: 2 },
    );
    const [pairs, none] = await analyse(two, [coactivation(), coactivation({ resamples: 0 })]);
    // Half of the samples are one sequence twice: the ends are what each alone would give.
    expect(pairs.perLayer[0]).toMatchObject({
      strongest: [
        { expert: 1, other: 0, share: 1, interval: [1, 1] },
        { expert: 2, other: 0, share: 1, interval: [1, 1] },
        { expert: 0, other: 1, share: 3 / 4, interval: [1 / 2, 1] },
        { expert: 0, other: 2, share: 1 / 4, interval: [0, 1 / 2] },
      ],
      meanLargest: (3 / 4 + 1 + 1) / 3,
      // The first sequence has no expert 2; with the second alone it is (1/2 + 1 + 1) / 3.
      meanLargestInterval: [2.5 / 3, 1],
    });
    expect(pairs.definition).toBe(
      "N_ij / N_i: of the tokens that have expert i among their first k, the share that has expert j there too (paper, equation 6). All pairs are counted. " +
        "Intervals: 95 %, bootstrap over 2 sequences; of the strongest pairs, and of the mean of each expert's largest share, as they are named.",
    );
    expect(none.perLayer[0]).toEqual({
      layer: 0,
      tokensOf: [4, 3, 1, 0],
      shares: [[1, 3 / 4, 1 / 4, 0], [1, 1, 0, 0], [1, 0, 1, 0], Array(4).fill(Number.NaN)],
      strongest: [
        { expert: 1, other: 0, share: 1 },
        { expert: 2, other: 0, share: 1 },
        { expert: 0, other: 1, share: 3 / 4 },
        { expert: 0, other: 2, share: 1 / 4 },
      ],
      meanLargest: (3 / 4 + 1 + 1) / 3,
    });
  });

  it("draws from groups where there are more sequences", async () => {
    const tokens = tokensOf([
      [0, 1],
      [0, 2],
    ]);
    const many = traceOf([Array.from({ length: 70 }, (_, sequence) => ({ sequence, tokens }))], {
      numExperts: 3,
      slots: 2,
    });
    const [{ definition, perLayer }] = await analyse(many, [coactivation({ resamples: 50 })]);
    expect(definition).toContain("bootstrap over 32 groups of sequences;");
    expect(perLayer[0]!.strongest[2]).toEqual({ expert: 0, other: 1, share: 1 / 2, interval: [1 / 2, 1 / 2] });
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
