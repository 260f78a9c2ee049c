import { describe, expect, it } from "vitest";
import { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import { type KernelName, kernelCost } from "../backend/cost.ts";
import { createDryBackend } from "../backend/dry/dry.ts";
import { KERNEL_NAMES } from "../backend/kernels.ts";
import type { ModelConfig } from "../config/model.ts";
import { type PresetName, resolveModel } from "../config/presets.ts";
import { expertChoiceCapacity } from "../config/routing.ts";
import { Arena } from "../tensor/arena.ts";
import { countParameters, flopsPerToken, forwardFlops } from "./counts.ts";
import { Decoder } from "./decoder.ts";
import { Parameters, parameterSpecs } from "./parameters.ts";

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

/** FLOPs of the kernel calls of one training step over `batch` sequences. */
function countedFlops(config: ModelConfig, batch: number, length: number): number {
  let flops = 0;
  // Where experts choose, each takes as many tokens of a sequence; the kernels' arguments do not show it.
  const { routing, numExperts } = config;
  const rows = routing === "expert_choice" ? batch * numExperts * expertChoiceCapacity(config, length) : undefined;
  const counting = (name: KernelName) => [
    name,
    (...args: number[]) => {
      flops += kernelCost(name, args, rows).flops;
    },
  ];
  const backend = createDryBackend(Object.fromEntries(KERNEL_NAMES.map(counting)));
  const decoder = new Decoder(backend, new Parameters(backend, config, { trainable: true }));
  const graph = new Graph(backend, new Arena(backend), { record: true });
  const ids = new Int32Array(batch * length);
  const { hidden } = decoder.forward(graph, ids, { batch });
  linearCrossEntropy(graph, hidden, decoder.outputWeight, graph.ids(ids), { scale: 1 });
  graph.backward();
  return flops;
}

describe("flopsPerToken", () => {
  it.each<[PresetName, object]>([
    ["tiny", {}],
    ["tiny", { numKeyValueHeads: 1, tieWordEmbeddings: true, numExperts: 5, numExpertsPerTok: 3 }],
    ["nano", {}],
    ["nano-dense", {}],
    ["small", { numHiddenLayers: 3, clipQkv: 8 }],
    ["tiny", { routing: "expert_choice" }],
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
