import { describe, expect, it } from "vitest";
import { traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import { weightMass } from "./mass.ts";

describe("weight mass", () => {
  const tokens = [
    { id: 0, experts: [[1, 0]], weights: [[0.5, 0.25]], probabilities: [[0.25, 0.5, 0.25]] },
    { id: 1, experts: [[2]], weights: [[1]], probabilities: [[0, 0, 1]] },
  ];
  const trace = traceOf([[{ tokens }]], { numExperts: 3, slots: 2 });

  it("has intervals over sequences", async () => {
    const run = (sequence: number, first: number, probabilities: readonly number[]) => ({
      sequence,
      tokens: [{ id: 0, experts: [[0, 1]], weights: [[first, 0.25]], probabilities: [probabilities] }],
    });
    const two = traceOf([[run(0, 0.5, [0.5, 0.5, 0]), run(1, 0.75, [1, 0, 0])]], { numExperts: 3, slots: 2 });
    const [weights, probabilities] = await analyse(two, [weightMass(), weightMass({ of: "probabilities" })]);
    expect(weights.perLayer).toEqual([
      {
        layer: 0,
        cumulative: [0.625, 0.875],
        intervals: [
          [0.5, 0.75],
          [0.75, 1],
        ],
      },
    ]);
    expect(probabilities.perLayer).toEqual([
      {
        layer: 0,
        cumulative: [0.75, 1],
        intervals: [
          [0.5, 1],
          [1, 1],
        ],
        entropy: Math.log(2) / 2,
        entropyInterval: [0, Math.log(2)],
      },
    ]);
    expect(weights.definition).toMatch(/ Intervals: 95 %, bootstrap over 2 sequences\.$/);
  });

  it("adds up what the first experts have of the router's probability, or their weights", async () => {
    const [weights, probabilities] = await analyse(trace, [weightMass(), weightMass({ of: "probabilities" })]);
    expect(weights.perLayer).toEqual([{ layer: 0, cumulative: [0.75, 0.875] }]);
    const entropy = (0.5 * Math.log(2) + 2 * 0.25 * Math.log(4)) / 2;
    expect(probabilities.perLayer).toEqual([{ layer: 0, cumulative: [0.75, 0.875], entropy }]);
    expect([weights.of, probabilities.of]).toEqual(["weights", "probabilities"]);
  });
});
