import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { headDim, type ModelConfig, parseModelConfig } from "../config/model.ts";
import { resolveModel } from "../config/presets.ts";
import { shapeSize } from "../tensor/tensor.ts";
import { countParameters } from "./counts.ts";
import { Decoder } from "./decoder.ts";
import { Parameters, parameterSpecs } from "./parameters.ts";

const backend = createReferenceBackend();

/** Any small valid config. */
const smallConfig: fc.Arbitrary<ModelConfig> = fc
  .record({
    groups: fc.integer({ min: 1, max: 3 }),
    numKeyValueHeads: fc.integer({ min: 1, max: 3 }),
    headPairs: fc.integer({ min: 1, max: 3 }),
    dense: fc.boolean(),
    numExperts: fc.integer({ min: 1, max: 9 }),
    chosen: fc.double({ min: 0, max: 1, noNaN: true }),
    vocabSize: fc.integer({ min: 1, max: 40 }),
    intermediateSize: fc.integer({ min: 1, max: 11 }),
    numHiddenLayers: fc.integer({ min: 1, max: 3 }),
    tieWordEmbeddings: fc.boolean(),
  })
  .map(({ groups, headPairs, dense, numExperts, chosen, ...rest }) =>
    parseModelConfig({
      ...rest,
      numAttentionHeads: groups * rest.numKeyValueHeads,
      hiddenSize: groups * rest.numKeyValueHeads * headPairs * 2,
      mlpType: dense ? "dense" : "moe",
      numExperts: dense ? 1 : numExperts,
      numExpertsPerTok: dense ? 1 : 1 + Math.floor(chosen * (numExperts - 1)),
    }),
  );

/** Names and shapes as transformers writes an OlmoeForCausalLM (a dense MLP is expert 0, without a router). */
function transformersTensors(config: ModelConfig): Map<string, readonly number[]> {
  const { vocabSize, hiddenSize: d, intermediateSize: f, numExperts, numHiddenLayers } = config;
  const kv = config.numKeyValueHeads * headDim(config);
  const layer = (n: number): [string, number[]][] => {
    const named: [string, number[]][] = [
      ["input_layernorm.weight", [d]],
      ["post_attention_layernorm.weight", [d]],
      ["self_attn.q_proj.weight", [d, d]],
      ["self_attn.k_proj.weight", [kv, d]],
      ["self_attn.v_proj.weight", [kv, d]],
      ["self_attn.o_proj.weight", [d, d]],
      ["self_attn.q_norm.weight", [d]],
      ["self_attn.k_norm.weight", [kv]],
    ];
    if (config.mlpType === "moe") named.push(["mlp.gate.weight", [numExperts, d]]);
    for (let e = 0; e < numExperts; e++) {
      named.push([`mlp.experts.${e}.gate_proj.weight`, [f, d]], [`mlp.experts.${e}.up_proj.weight`, [f, d]]);
      named.push([`mlp.experts.${e}.down_proj.weight`, [d, f]]);
    }
    return named.map(([name, shape]) => [`model.layers.${n}.${name}`, shape]);
  };
  const outer: [string, number[]][] = [
    ["model.embed_tokens.weight", [vocabSize, d]],
    ["model.norm.weight", [d]],
    ...(config.tieWordEmbeddings ? [] : [["lm_head.weight", [vocabSize, d]] as [string, number[]]]),
  ];
  return new Map([...outer, ...Array.from({ length: numHiddenLayers }, (_, n) => layer(n)).flat()]);
}

describe("parameters of any small model", () => {
  const always = (law: (config: ModelConfig) => void) =>
    fc.assert(fc.property(smallConfig, law), { seed: 1, numRuns: 60 });

  it("have transformers' names and shapes, each once", () => {
    always((config) => {
      const slices = parameterSpecs(config).flatMap((spec) => spec.slices);
      expect(new Map(slices.map(({ name, shape }) => [name, shape]))).toEqual(transformersTensors(config));
      expect(slices.length).toBe(transformersTensors(config).size);
    });
  });

  it("are covered by their slices exactly once, in order", () => {
    always((config) => {
      for (const { shape, slices } of parameterSpecs(config)) {
        let end = 0;
        for (const slice of slices) {
          expect(slice.offset).toBe(end);
          end += shapeSize(slice.shape);
        }
        expect(end).toBe(shapeSize(shape));
      }
    });
  });

  it("add up to what countParameters says, lie apart and start at multiples of 64 bytes", () => {
    always((config) => {
      const parameters = new Parameters(backend, config, { trainable: false });
      const tensors = parameters.tensors();
      expect(tensors.reduce((sum, { data }) => sum + data.length, 0)).toBe(countParameters(config).total);
      let end = 0;
      for (const { start, size } of parameters.ranges()) {
        expect(start).toBeGreaterThanOrEqual(end);
        end = start + size;
      }
      expect(parameters.flatSize).toBeGreaterThanOrEqual(end);
      for (const { name } of parameterSpecs(config)) expect(parameters.get(name).value.pointer % 64).toBe(0);
      parameters.dispose();
    });
  });
});

describe("Parameters", () => {
  const config = resolveModel({ preset: "tiny" });
  const initialised = (seed: number, changes: object = {}) => {
    const parameters = new Parameters(backend, { ...config, ...changes }, { trainable: false });
    parameters.initialise(seed);
    return new Map(parameters.tensors().map(({ name, data }) => [name, data.slice()]));
  };

  it("are initialised to the same bits by the same seed, and to others by another", () => {
    const [one, again, other] = [initialised(1), initialised(1), initialised(2)];
    expect(again).toEqual(one);
    for (const [name, data] of one) {
      if (name.includes("norm")) expect(other.get(name)).toEqual(data);
      else expect(other.get(name), name).not.toEqual(data);
    }
  });

  it("do not share random numbers, and do not depend on what else the model has", () => {
    const one = initialised(1);
    const firsts = [...one].filter(([name]) => !name.includes("norm")).map(([, data]) => data[0]);
    expect(new Set(firsts).size).toBe(firsts.length);
    const deeper = initialised(1, { numHiddenLayers: 3, tieWordEmbeddings: true });
    for (const [name, data] of one) if (name !== "lm_head.weight") expect(deeper.get(name), name).toEqual(data);
  });

  it("start with norms at 1 and matrices at a deviation of 0.01973, cut at 0.06", () => {
    const matrices: number[] = [];
    for (const [name, data] of initialised(6198)) {
      if (name.includes("norm")) expect(data.every((value) => value === 1)).toBe(true);
      else matrices.push(...data);
    }
    const square = matrices.reduce((sum, value) => sum + value * value, 0) / matrices.length;
    const largest = matrices.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    // 66,000 numbers: the estimate's deviation is 0.3 %.
    expect(Math.abs(Math.sqrt(square) / 0.01973 - 1)).toBeLessThan(0.01);
    expect(largest).toBeLessThanOrEqual(Math.fround(0.06));
    expect(largest).toBeGreaterThan(0.0595);
  });

  it("share one matrix for input and output where the embeddings are tied", () => {
    const outputOf = (tieWordEmbeddings: boolean) => {
      const parameters = new Parameters(backend, { ...config, tieWordEmbeddings }, { trainable: true });
      const embedding = parameters.get("model.embed_tokens.weight");
      return { embedding, output: new Decoder(backend, parameters).outputWeight };
    };
    const tied = outputOf(true);
    expect(tied.output).toBe(tied.embedding);
    const untied = outputOf(false);
    expect(untied.output).not.toBe(untied.embedding);
  });

  it("have gradients only when they are trained", () => {
    const trained = new Parameters(backend, config, { trainable: true });
    const frozen = new Parameters(backend, config, { trainable: false });
    expect([trained.get("lm_head.weight").trainable, frozen.get("lm_head.weight").trainable]).toEqual([true, false]);
    expect([trained.grads?.size, frozen.grads]).toEqual([trained.flatSize, undefined]);
    expect(trained.grads?.data.every((value) => value === 0)).toBe(true);
  });
});
