import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { anyConfig } from "../../test/properties/anyConfig.ts";
import { VARIANTS } from "../../test/variants.ts";
import { configFromHuggingFace, configToHuggingFace } from "./huggingface.ts";
import { resolveModel } from "./presets.ts";
import { isVariant, variantChoices } from "./variant.ts";

const tiny = (changes: object = {}) => resolveModel({ preset: "tiny", ...changes });
const throughJson = (value: unknown): Record<string, unknown> => JSON.parse(JSON.stringify(value));

describe("a model that transformers can not compute", () => {
  it("is written with a model type that transformers does not know and all keys in snake_case", () => {
    expect(configToHuggingFace(tiny({ normType: "layernorm", decoderSparseStep: 2 }), "bfloat16")).toEqual({
      architectures: ["OlmoeVariantForCausalLM"],
      model_type: "olmoe_variant",
      torch_dtype: "bfloat16",
      vocab_size: 512,
      hidden_size: 32,
      intermediate_size: 16,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 2,
      mlp_type: "moe",
      num_experts: 8,
      num_experts_per_tok: 2,
      norm_topk_prob: false,
      routing: "token_choice",
      expert_choice_scope: "sequence",
      expert_capacity_factor: null,
      softmax_after_topk: false,
      clip_qkv: null,
      max_position_embeddings: 64,
      rope_theta: 10_000,
      rms_norm_eps: 1e-5,
      initializer_range: 0.02,
      initializer_cutoff_factor: 3,
      tie_word_embeddings: false,
      router_aux_loss_coef: 0.01,
      eos_token_id: null,
      pad_token_id: null,
      norm_type: "layernorm",
      qk_norm: "full",
      clip_qkv_placement: "after_norm",
      initialization: "truncated_normal",
      decoder_sparse_step: 2,
      dense_intermediate_size: null,
      num_shared_experts: 0,
      layer_shared_moe: "none",
    });
  });

  it.each(VARIANTS)("is read back as it was written: %s", (name, changes) => {
    const config = tiny(changes);
    const json = throughJson(configToHuggingFace(config));
    expect(configFromHuggingFace(json, "config.json")).toEqual(config);
    expect(json.model_type, name).toBe("olmoe_variant");
  });

  it("is one of two kinds of file that are both undone by reading, for any valid config", () => {
    const kinds = new Set<unknown>();
    fc.assert(
      fc.property(anyConfig, (config) => {
        const json = throughJson(configToHuggingFace(config));
        kinds.add(json.model_type);
        expect(json.model_type === "olmoe_variant").toBe(isVariant(config));
        expect(configFromHuggingFace(json, "config.json")).toEqual(config);
      }),
      { seed: 1, numRuns: 300 },
    );
    expect(kinds).toEqual(new Set(["olmoe", "olmoe_variant"]));
  });

  it("is refused with unknown keys, wrong values and contradictions, all listed", () => {
    const json = throughJson(configToHuggingFace(tiny({ qkNorm: "head" })));
    const faulty = { ...json, qk_norn: "head", hidden_act: "silu", norm_type: "batchnorm" };
    expect(() => configFromHuggingFace(faulty, "config.json")).toThrowErrorMatchingInlineSnapshot(`
      [ConfigError: config.json: 3 faults
        - norm_type: "batchnorm", expected one of "rmsnorm"|"layernorm"|"layernorm_nonparametric"
        - qk_norn: unknown key, did you mean "qk_norm"?
        - hidden_act: unknown key]
    `);
    expect(() =>
      configFromHuggingFace({ ...json, decoder_sparse_step: 7 }, "config.json"),
    ).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: config.json: decoder_sparse_step: 7, must be at most num_hidden_layers (2): no layer would have experts]`,
    );
    expect(() =>
      configFromHuggingFace({ ...json, vocab_size: undefined }, "config.json"),
    ).toThrowErrorMatchingInlineSnapshot(`[ConfigError: config.json: vocab_size: missing, expected number]`);
  });

  it("names what it has otherwise", () => {
    expect(variantChoices(tiny({ qkNorm: "head", numSharedExperts: 1, initialization: "mitchell" }))).toEqual({
      qkNorm: "head",
      numSharedExperts: 1,
    });
  });
});

describe("a model of transformers' class", () => {
  it("is no variant however it was initialised, clipped, tied or rotated", () => {
    const changes = {
      initialization: "mitchell",
      clipQkv: 8,
      tieWordEmbeddings: true,
      ropeTheta: 500,
      normTopkProb: true,
    };
    const config = tiny(changes);
    expect(isVariant(config)).toBe(false);
    const json = throughJson(configToHuggingFace(config));
    expect([json.model_type, json.initialization, "norm_type" in json]).toEqual(["olmoe", "mitchell", false]);
    expect(configFromHuggingFace(json, "config.json")).toEqual(config);
  });

  it("may not claim in its file what the class does not compute", () => {
    const json = { ...throughJson(configToHuggingFace(tiny())), norm_type: "layernorm", num_shared_experts: 0 };
    expect(() => configFromHuggingFace(json, "config.json")).toThrowErrorMatchingInlineSnapshot(
      `[ConfigError: config.json: norm_type: "layernorm", expected "rmsnorm"]`,
    );
  });
});
