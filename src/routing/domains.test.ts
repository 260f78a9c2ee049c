import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import { domainSpecialisation, mutualInformation, specialisationTest } from "./domains.ts";

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
