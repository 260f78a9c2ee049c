import { describe, expect, it } from "vitest";
import { countedFlops } from "../../test/countedFlops.ts";
import { VARIANTS } from "../../test/variants.ts";
import { type PresetName, resolveModel } from "../config/presets.ts";
import { countParameters, flopsPerToken, forwardFlops } from "./counts.ts";
import { parameterSpecs } from "./parameters.ts";

const preset = (name: PresetName, changes: object = {}) => resolveModel({ preset: name, ...changes });

describe("countParameters", () => {
  it("gives the paper's counts for OLMoE-1B-7B and its dense comparison", () => {
    expect(countParameters(preset("olmoe-1b-7b"))).toEqual({ total: 6_919_161_856, active: 1_282_017_280 });
    const dense = 1_279_920_128;
    expect(countParameters(preset("olmoe-1b-7b-dense"))).toEqual({ total: dense, active: dense });
  });

  it.each([
    ["nano", "nano-dense"],
    ["olmoe-1b-7b", "olmoe-1b-7b-dense"],
  ] as const)("gives %s as many active parameters as its dense twin has, and the router", (sparse, dense) => {
    const config = preset(sparse);
    const router = config.numHiddenLayers * config.numExperts * config.hiddenSize;
    expect(countParameters(config).active).toBe(countParameters(preset(dense)).total + router);
  });

  it("counts a tied embedding once", () => {
    const [untied, tied] = [false, true].map((tieWordEmbeddings) =>
      countParameters(preset("tiny", { tieWordEmbeddings })),
    );
    expect((untied?.total ?? 0) - (tied?.total ?? 0)).toBe(512 * 32);
    expect((untied?.active ?? 0) - (tied?.active ?? 0)).toBe(512 * 32);
  });
});

describe("parameterSpecs", () => {
  it("gives the released model the 3,219 tensors of its checkpoint", () => {
    const slices = parameterSpecs(preset("olmoe-1b-7b")).flatMap((spec) => spec.slices);
    expect(slices.length).toBe(3219);
    expect(new Set(slices.map(({ name }) => name)).size).toBe(3219);
  });
});

describe("flopsPerToken", () => {
  it.each<[PresetName, object]>([
    ["tiny", {}],
    ["tiny", { numKeyValueHeads: 1, tieWordEmbeddings: true, numExperts: 5, numExpertsPerTok: 3 }],
    ["nano", {}],
    ["nano-dense", {}],
    ["small", { numHiddenLayers: 3, clipQkv: 8 }],
    ["tiny", { routing: "expert_choice" }],
    ...VARIANTS.map(([, changes]) => ["tiny", changes] as [PresetName, object]),
  ])("is what the kernel calls of a training step of %s with %j cost", (name, changes) => {
    const config = preset(name, changes);
    for (const [batch, length] of [
      [1, 4],
      [3, 50],
    ] as const) {
      expect(countedFlops(config, batch, length)).toBe(batch * length * flopsPerToken(config, length).training);
    }
  });
});

describe("forwardFlops", () => {
  it("counts two for each product of a token's pass, worked out for tiny", () => {
    // Projections 4 * 32 * 32 = 4096, router 8 * 32 = 256, experts 2 * 3 * 32 * 16 = 3072; attention over a mean of
    // 32.5 keys, twice 32 * 32.5 = 2080; output 512 * 32 = 16,384.
    expect(forwardFlops(preset("tiny"), 64)).toBe(2 * (2 * (4096 + 256 + 3072 + 2080) + 16_384));
    // Without a router; with one head of 16 for keys and values, 2 * 32 * 16 products less.
    const dense = preset("tiny", { mlpType: "dense", numExperts: 1, numExpertsPerTok: 1, numKeyValueHeads: 1 });
    expect(forwardFlops(dense, 64)).toBe(2 * (2 * (4096 - 1024 + 1536 + 2080) + 16_384));
  });
});
