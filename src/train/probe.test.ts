import { describe, expect, it } from "vitest";
import { Draw } from "../../test/conformance/harness.ts";
import { gradientBackends } from "../../test/gradients.ts";
import { createDecoder, smallConfig } from "../../test/models.ts";
import { Graph } from "../autograd/graph.ts";
import type { HeldOutText } from "../data/heldOut.ts";
import { Arena } from "../tensor/arena.ts";
import { churnOf, RoutingProbe } from "./probe.ts";

const OPTIONS = { sequenceLength: 8, eosTokenId: 0, documentMask: false };

const text = (tokens: number, seed = 1): HeldOutText => ({
  source: `${seed}`,
  tokens: Uint16Array.from(new Draw(seed).ints(tokens, 0, 49)),
  documents: [],
  textBytes: tokens,
});

describe("churnOf", () => {
  it("counts sets that are another, and slots whose expert is new", () => {
    const before = Int32Array.of(0, 1, 2, 3, 4, 5, 6, 7);
    expect(churnOf(before, before, 4)).toEqual({ tokens: 0, slots: 0 });
    expect(churnOf(before, Int32Array.of(0, 1, 2, 4, 6, 7, 6, 7), 4)).toEqual({ tokens: 0.5, slots: 3 / 8 });
    expect(churnOf(Int32Array.of(0, 1), Int32Array.of(1, 2), 1)).toEqual({ tokens: 1, slots: 0.5 });
    expect(churnOf(new Int32Array(), new Int32Array(), 0)).toEqual({ tokens: 0, slots: 0 });
  });

  it("passes over slots without an expert, and counts a set that only loses one as changed", () => {
    const before = Int32Array.of(-1, 0, 1, -1, -1, 2, -1, -1, -1);
    const now = Int32Array.of(-1, -1, 1, -1, -1, 2, -1, 0, 2);
    expect(churnOf(before, now, 3)).toEqual({ tokens: 2 / 3, slots: 2 / 4 });
  });
});

describe("RoutingProbe", () => {
  it("takes a few windows of up to sixteen sources, and counts no padding", () => {
    const probe = (...texts: HeldOutText[]) => new RoutingProbe(texts, OPTIONS).tokens;
    expect(probe(text(800))).toBe(4 * 8);
    expect(probe(text(80), text(80))).toBe(4 * 8);
    expect(probe(text(80), text(80), text(80))).toBe(6 * 8);
    expect(probe(...Array.from({ length: 20 }, (_, seed) => text(80, seed)))).toBe(16 * 8);
    expect(probe(text(13))).toBe(13);
    expect(probe(text(0))).toBe(0);
    expect(probe()).toBe(0);
    expect(new RoutingProbe([text(9000)], { ...OPTIONS, sequenceLength: 4096 }).tokens).toBe(512);
  });
});

describe.each(gradientBackends)("RoutingProbe on %s", (_, backend) => {
  const decoder = createDecoder(backend, smallConfig());

  it("gives the experts of a pass made by hand, in rising order", () => {
    const held = text(8);
    const ids = [0, ...held.tokens.slice(0, 7)];
    const arena = new Arena(backend);
    const { routings } = decoder.forward(new Graph(backend, arena, { record: false }), ids, { batch: 1 });
    const expected = routings.map(({ expertIds: { data } }) =>
      Array.from({ length: 8 }, (__, token) => [...data.slice(2 * token, 2 * token + 2)].sort()).flat(),
    );
    arena.dispose();
    expect(new RoutingProbe([held], OPTIONS).run(backend, decoder).map((sets) => [...sets])).toEqual(expected);
  });

  it("gives the same again, and something else once the routers are changed", () => {
    const probe = new RoutingProbe([text(80), text(80, 2)], { ...OPTIONS, documentMask: true });
    const before = probe.run(backend, decoder);
    expect(probe.run(backend, decoder)).toEqual(before);
    const other = createDecoder(backend, smallConfig(), { seed: 5 });
    const churn = probe.run(backend, other).map((sets, layer) => churnOf(before[layer]!, sets, probe.tokens));
    for (const { tokens, slots } of churn) {
      expect(tokens).toBeGreaterThan(0.5);
      expect(slots).toBeLessThanOrEqual(tokens);
    }
  });

  it("gives nothing for a dense model", () => {
    const dense = createDecoder(backend, smallConfig({ mlpType: "dense", numExperts: 1, numExpertsPerTok: 1 }));
    expect(new RoutingProbe([text(80)], OPTIONS).run(backend, dense)).toEqual([]);
  });
});
