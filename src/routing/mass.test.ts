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

  it("adds up what the first experts have of the router's probability, or their weights", async () => {
    const [weights, probabilities] = await analyse(trace, [weightMass(), weightMass({ of: "probabilities" })]);
    expect(weights.perLayer).toEqual([{ layer: 0, cumulative: [0.75, 0.875] }]);
    const entropy = (0.5 * Math.log(2) + 2 * 0.25 * Math.log(4)) / 2;
    expect(probabilities.perLayer).toEqual([{ layer: 0, cumulative: [0.75, 0.875], entropy }]);
    expect([weights.of, probabilities.of]).toEqual(["weights", "probabilities"]);
  });
});
