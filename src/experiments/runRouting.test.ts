import { describe, expect, it } from "vitest";
import { tokensOf, traceOf } from "../../test/routingTraces.ts";
import { describeTest, routingBlocks, runRouting } from "./runRouting.ts";

const SHAPE = { numExperts: 2, slots: 1, sources: ["prose", "code"] };

/** Six sequences of each of two sources, two tokens each. `experts` says where those of a source go. */
function trace(step: number, experts: readonly [number, number]) {
  const runs = Array.from({ length: 12 }, (_, sequence) => ({
    sequence,
    source: sequence % 2,
    tokens: tokensOf([[experts[sequence % 2]!], [experts[sequence % 2]!]], [1, 2]),
  }));
  return traceOf([runs], { ...SHAPE, step });
}

describe("the routing of a run", () => {
  it("tells experts that know the kind of text from those that do not", async () => {
    const { test: knows } = await runRouting([trace(10, [0, 1])], { seed: 1 });
    // One expert for each of two equal sources: log 2. Of 924 ways to choose six of twelve sequences two are as good.
    expect(knows?.mean.information).toBeCloseTo(Math.LN2, 12);
    expect(describeTest(knows!)).toMatch(
      /^experts know the kind of text: an expert tells 0\.6931 nats about which of 2 it is \(with shuffled labels 0\.0\d+, 95 % below 0\.\d+; p (< 0\.002|= 0\.00\d+)\)$/,
    );
    const { test: blind } = await runRouting([trace(10, [0, 0])], { seed: 1 });
    expect(describeTest(blind!)).toBe(
      "no sign that experts know the kind of text: an expert tells 0.0000 nats about which of 2 it is " +
        "(with shuffled labels 0.0000, 95 % below 0.0000; p = 1.0)",
    );
  });

  it("follows saturation from the first trace to the one before the last", async () => {
    const traces = [trace(0, [1, 0]), trace(10, [0, 0]), trace(20, [0, 1])];
    const routing = await runRouting(traces, { seed: 1 });
    expect(routing.saturation?.checkpoints.map(({ step, shares }) => [step, shares])).toEqual([
      [0, [0]],
      [10, [0.5]],
    ]);
    const blocks = await routingBlocks(routing, async (spec) => JSON.stringify(spec));
    expect(blocks.map(({ kind }) => kind)).toEqual(["text", "table", "figure"]);
    expect(blocks[1]).toMatchObject({
      rows: [["0", "0.6931", expect.any(String), expect.any(String), expect.any(String)]],
    });
    expect(blocks[2]).toMatchObject({ title: "Router saturation" });
  });

  it("has nothing to compare with one trace of one kind of text", async () => {
    const runs = [{ source: 0, tokens: tokensOf([[0], [1]]) }];
    const alone = traceOf([runs], { numExperts: 2, slots: 1, sources: ["text"] });
    const routing = await runRouting([alone], { seed: 1 });
    expect(routing).toEqual({ test: undefined, saturation: undefined });
    expect(await routingBlocks(routing, async () => "")).toEqual([]);
  });
});
