import { describe, expect, it } from "vitest";
import { layerHealth, RoutingWatch } from "./routingHealth.ts";

const counts = (...values: number[]) => Float64Array.from(values);

describe("layerHealth", () => {
  it("gives the values worked out by hand", () => {
    expect(layerHealth(counts(5, 5, 5, 5))).toEqual({ loadEntropy: 1, largestShare: 0.25, deadExperts: 0 });
    expect(layerHealth(counts(0, 8, 0, 0))).toEqual({ loadEntropy: 0, largestShare: 1, deadExperts: 3 });
    // Halves on two of four experts: ln 2 / ln 4.
    expect(layerHealth(counts(3, 0, 3, 0))).toEqual({ loadEntropy: 0.5, largestShare: 0.5, deadExperts: 2 });
    const { loadEntropy, ...rest } = layerHealth(counts(1, 3));
    expect(loadEntropy).toBeCloseTo((0.25 * Math.log(4) + 0.75 * Math.log(4 / 3)) / Math.log(2), 12);
    expect(rest).toEqual({ largestShare: 0.75, deadExperts: 0 });
  });

  it("takes one expert for balanced, and no token for no load", () => {
    expect(layerHealth(counts(7))).toEqual({ loadEntropy: 1, largestShare: 1, deadExperts: 0 });
    expect(layerHealth(counts(0, 0))).toEqual({ loadEntropy: 0, largestShare: 0, deadExperts: 2 });
  });
});

describe("RoutingWatch", () => {
  const ADVICE = "a larger train.loss.balance spreads the load";
  const dead = `layer 0: 1 of 4 experts received no token; ${ADVICE}`;
  // Two experts a token: 1,000 slots are 500 tokens.
  const healthy = counts(250, 250, 250, 250);
  const starved = counts(0, 400, 300, 300);

  it("names the layers that have experts", () => {
    const watch = new RoutingWatch(2, [1, 3]);
    watch.add([healthy, starved]);
    expect(watch.close()).toEqual([dead.replace("layer 0", "layer 3")]);
  });

  it("says nothing about an even load", () => {
    const watch = new RoutingWatch(2);
    watch.add([healthy, healthy]);
    expect(watch.close()).toEqual([]);
    expect(watch.close()).toEqual([]);
  });

  it("reports dead experts and a collapse once for each layer", () => {
    const watch = new RoutingWatch(2);
    // Expert 2 of layer 1 serves 470 of 500 tokens.
    const collapsed = counts(200, 130, 470, 200);
    const close = (...layers: Float64Array[]) => {
      watch.add(layers);
      return watch.close();
    };
    expect(close(starved, healthy)).toEqual([dead]);
    expect(close(starved, collapsed)).toEqual([`layer 1: expert 2 serves 94 % of the tokens; ${ADVICE}`]);
    expect(close(starved, collapsed)).toEqual([]);
    expect(close(counts(480, 20, 250, 250), healthy)).toEqual([
      `layer 0: expert 0 serves 96 % of the tokens; ${ADVICE}`,
    ]);
  });

  it("judges experts that all layers share by all of them together", () => {
    const watch = new RoutingWatch(2, "shared");
    watch.add([starved, healthy]);
    expect(watch.close()).toEqual([]);
    watch.add([starved, starved]);
    expect(watch.close()).toEqual([dead.replace("layer 0", "all layers")]);
  });

  it("counts an expert as alive that received one token in the window", () => {
    const watch = new RoutingWatch(2);
    watch.add([starved]);
    watch.add([counts(1, 333, 333, 333)]);
    expect(watch.close()).toEqual([]);
    watch.add([starved]);
    expect(watch.close()).toEqual([dead]);
  });

  it("waits with a window that is too short to tell, and adds to it", () => {
    const watch = new RoutingWatch(2);
    const few = counts(0, 80, 60, 60);
    watch.add([few]);
    expect(watch.close()).toEqual([]);
    watch.add([few]);
    expect(watch.close()).toEqual([dead]);
  });

  it("has nothing to say where every expert serves every token, and of a dense model", () => {
    const watch = new RoutingWatch(2);
    watch.add([counts(1000, 0)]);
    expect(watch.close()).toEqual([]);
    watch.add([]);
    expect(watch.close()).toEqual([]);
  });
});
