import { describe, expect, it } from "vitest";
import { traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import { crossLayerRouting } from "./crossLayer.ts";

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

  it("gives the strongest path of a domain an interval over its sequences", async () => {
    const run = (sequence: number, source: number, paths: readonly (readonly [number, number])[]) => ({
      sequence,
      source,
      tokens: paths.map(([from, to], id) => ({ id, experts: [[from], [to]] })),
    });
    const two = traceOf(
      [
        [
          run(0, 0, [
            [0, 1],
            [0, 1],
          ]),
          run(1, 0, [
            [0, 1],
            [2, 1],
          ]),
          run(2, 1, [[2, 2]]),
        ],
      ],
      { numExperts: 3, slots: 1, layers: [0, 7], sources: ["a", "b"] },
    );
    const [paths, none] = await analyse(two, [crossLayerRouting(), crossLayerRouting({ resamples: 0 })]);
    const table = (...rows: number[][]) => rows;
    expect(paths.domains).toEqual([
      {
        name: "a",
        tokens: 4,
        perStep: [
          {
            shares: table([0, 3 / 4, 0], [0, 0, 0], [0, 1 / 4, 0]),
            strongest: [0, 1, 3 / 4],
            strongestInterval: [1 / 2, 1],
          },
        ],
      },
      {
        name: "b",
        tokens: 1,
        perStep: [{ shares: table([0, 0, 0], [0, 0, 0], [0, 0, 1]), strongest: [2, 2, 1] }],
      },
    ]);
    expect(paths.definition).toMatch(
      /\. Intervals: 95 %, bootstrap over 2 sequences of a domain, of the strongest path as it is named\.$/,
    );
    expect(none.domains[0]!.perStep[0]).not.toHaveProperty("strongestInterval");
    expect(none.definition).not.toContain("Intervals");
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
