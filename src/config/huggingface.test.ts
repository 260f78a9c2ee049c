import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ConfigError } from "../errors.ts";
import { configFromHuggingFace, configToHuggingFace } from "./huggingface.ts";
import { type ModelConfig, parseModelConfig } from "./model.ts";
import { PRESETS, resolveModel } from "./presets.ts";

/** The fields that hub files state; the released model's values. */
const released = {
  architectures: ["OlmoeForCausalLM"],
  model_type: "olmoe",
  hidden_size: 2048,
  num_hidden_layers: 16,
  intermediate_size: 1024,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  num_experts: 64,
  num_experts_per_tok: 8,
  norm_topk_prob: false,
  hidden_act: "silu",
  attention_bias: false,
  attention_dropout: 0,
  clip_qkv: null,
  max_position_embeddings: 4096,
  rope_theta: 10000,
  rope_scaling: null,
  initializer_range: 0.02,
  router_aux_loss_coef: 0.01,
  output_router_logits: true,
  vocab_size: 50304,
  eos_token_id: 50279,
  pad_token_id: 1,
  tie_word_embeddings: false,
  use_cache: true,
  torch_dtype: "bfloat16",
  transformers_version: "4.43.0.dev0",
};

/** Any valid config. */
const anyConfig: fc.Arbitrary<ModelConfig> = fc
  .record({
    groups: fc.integer({ min: 1, max: 4 }),
    numKeyValueHeads: fc.integer({ min: 1, max: 4 }),
    headPairs: fc.integer({ min: 1, max: 8 }),
    dense: fc.boolean(),
    numExperts: fc.integer({ min: 1, max: 64 }),
    chosen: fc.double({ min: 0, max: 1, noNaN: true }),
    rest: fc.record({
      vocabSize: fc.integer({ min: 10, max: 70_000 }),
      intermediateSize: fc.integer({ min: 1, max: 4096 }),
      numHiddenLayers: fc.integer({ min: 1, max: 40 }),
      normTopkProb: fc.boolean(),
      clipQkv: fc.option(fc.double({ min: 0.01, max: 100, noNaN: true })),
      maxPositionEmbeddings: fc.integer({ min: 1, max: 10_000 }),
      ropeTheta: fc.double({ min: 1, max: 1e7, noNaN: true }),
      rmsNormEps: fc.double({ min: 1e-12, max: 1, noNaN: true }),
      initializerRange: fc.double({ min: 1e-6, max: 1, noNaN: true }),
      initializerCutoffFactor: fc.double({ min: 0.1, max: 10, noNaN: true }),
      tieWordEmbeddings: fc.boolean(),
      routerAuxLossCoef: fc.double({ min: 0, max: 1, noNaN: true }),
      eosTokenId: fc.option(fc.integer({ min: 0, max: 9 })),
      padTokenId: fc.option(fc.integer({ min: 0, max: 9 })),
    }),
  })
  .map(({ groups, numKeyValueHeads, headPairs, dense, numExperts, chosen, rest }) =>
    parseModelConfig({
      ...rest,
      numKeyValueHeads,
      numAttentionHeads: groups * numKeyValueHeads,
      hiddenSize: groups * numKeyValueHeads * headPairs * 2,
      mlpType: dense ? "dense" : "moe",
      numExperts: dense ? 1 : numExperts,
      numExpertsPerTok: dense ? 1 : 1 + Math.floor(chosen * (numExperts - 1)),
    }),
  );

describe("configFromHuggingFace", () => {
  it("reads the released model's file as the preset", () => {
    expect(configFromHuggingFace(released, "config.json")).toEqual(resolveModel({ preset: "olmoe-1b-7b" }));
  });

  it("reads the form of transformers 5", () => {
    const { rope_theta: _theta, rope_scaling: _scaling, torch_dtype: dtype, ...rest } = released;
    const json = { ...rest, dtype, rope_parameters: { rope_theta: 500, rope_type: "default" } };
    expect(configFromHuggingFace(json, "config.json")).toEqual(resolveModel({ preset: "olmoe-1b-7b", ropeTheta: 500 }));
  });

  it("fills in the defaults of transformers' class, whose intermediate_size is not the released model's", () => {
    expect(configFromHuggingFace({ model_type: "olmoe" }, "config.json")).toEqual(
      resolveModel({ preset: "olmoe-1b-7b", intermediateSize: 2048 }),
    );
  });

  it("takes absent key-value heads as the attention heads, and no default token id outside the vocabulary", () => {
    const json = { model_type: "olmoe", vocab_size: 300, num_attention_heads: 8, num_key_value_heads: null };
    const config = configFromHuggingFace(json, "config.json");
    expect([config.numKeyValueHeads, config.eosTokenId, config.padTokenId]).toEqual([8, null, 1]);
  });

  it("reads a list of one end-of-text id, and null as none", () => {
    const config = configFromHuggingFace({ ...released, eos_token_id: [7], pad_token_id: null }, "config.json");
    expect([config.eosTokenId, config.padTokenId]).toEqual([7, null]);
  });

  it("lists every fault and every part that is not computed", () => {
    const json = {
      ...released,
      model_type: "mixtral",
      hidden_act: "gelu",
      attention_bias: true,
      attention_dropout: 0.1,
      rope_scaling: { type: "linear", factor: 2 },
      quantization_config: { bits: 4 },
      num_hidden_layers: 0,
      eos_token_id: [1, 2],
    };
    expect(() => configFromHuggingFace(json, "config.json")).toThrowErrorMatchingInlineSnapshot(`
      [ConfigError: config.json: 9 faults
        - model_type: "mixtral", expected "olmoe"
        - num_hidden_layers: 0, expected number to be >=1
        - rope_scaling.type: "linear", expected "default"
        - rope_scaling.factor: unknown key
        - eos_token_id: [1,2], expected one token id
        - hidden_act: "gelu", expected "silu"
        - attention_bias: true, expected false
        - attention_dropout: 0.1, expected 0
        - quantization_config: {"bits":4}, expected null, received object]
    `);
  });

  it("reports faults between fields by the file's keys", () => {
    const json = { ...released, hidden_size: 100, head_dim: 32, num_local_experts: 8, num_experts_per_tok: 65 };
    expect(() => configFromHuggingFace(json, "config.json")).toThrowErrorMatchingInlineSnapshot(`
      [ConfigError: config.json: 4 faults
        - head_dim: 32, must be hidden_size / num_attention_heads (6.25)
        - num_local_experts: 8, must be num_experts (64)
        - num_experts_per_tok: 65, must be at most num_experts (64)
        - hidden_size: 100, must be a multiple of num_attention_heads (16)]
    `);
  });

  it("refuses two rotary bases that differ", () => {
    const json = { ...released, rope_parameters: { rope_theta: 500, rope_type: "default" } };
    expect(() => configFromHuggingFace(json, "config.json")).toThrow(
      new ConfigError("config.json: rope_theta: given as 500 and as 10000", {
        hint: 'readable are configs of model_type "olmoe" with silu, default rotary positions, no biases and no quantised weights',
      }),
    );
  });

  const parity = new URL("../../../shared/reference/parity/olmoe/", import.meta.url);
  it.skipIf(!existsSync(parity))("reads the configs of the reference models (skipped where those are absent)", () => {
    const read = (name: string) =>
      configFromHuggingFace(JSON.parse(readFileSync(new URL(`${name}/config.json`, parity), "utf8")), name);
    const wide = read("wide");
    expect([wide.ropeTheta, wide.rmsNormEps, wide.numExperts, wide.numExpertsPerTok]).toEqual([500, 1e-3, 16, 4]);
    expect(read("clipqkv").clipQkv).toBe(0.7);
    expect(read("gqa").numKeyValueHeads).toBe(2);
    expect(read("normtopk").normTopkProb).toBe(true);
  });
});

describe("configToHuggingFace", () => {
  it("writes what transformers 4 and 5 load", () => {
    expect(configToHuggingFace(resolveModel({ preset: "olmoe-1b-7b" }), "bfloat16")).toEqual({
      ...Object.fromEntries(Object.entries(released).filter(([key]) => key !== "transformers_version")),
      output_router_logits: false,
      rms_norm_eps: 1e-5,
      mlp_type: "moe",
      initializer_cutoff_factor: 3,
    });
  });

  it("writes a dense model as one expert that every token chooses", () => {
    expect(configToHuggingFace(resolveModel({ preset: "nano-dense" }))).toMatchObject({
      num_experts: 1,
      num_experts_per_tok: 1,
      intermediate_size: 256,
      mlp_type: "dense",
      torch_dtype: "float32",
    });
  });

  it("is undone by reading, for every preset and any valid config", () => {
    const back = (config: ModelConfig) =>
      configFromHuggingFace(JSON.parse(JSON.stringify(configToHuggingFace(config))), "config.json");
    for (const preset of Object.keys(PRESETS)) {
      const config = resolveModel({ preset });
      expect(back(config)).toEqual(config);
    }
    fc.assert(
      fc.property(anyConfig, (config) => {
        expect(back(config)).toEqual(config);
      }),
      { seed: 1, numRuns: 300 },
    );
  });
});
