import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { analyse } from "./analysis.ts";
import { expertCounting } from "./expertCounts.ts";
import { loadBalance, loadChange } from "./load.ts";

const none = { resamples: 0 };

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
