import { describe, expect, it } from "vitest";
import { parseModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import { configFromOlmo, configToOlmo, decodeOlmoName, encodeOlmoName } from "./olmo.ts";

/** What `config.yaml` of the released model says of it, eos included. */
const released = {
  d_model: 2048,
  n_heads: 16,
  n_layers: 16,
  mlp_ratio: 1,
  weight_tying: false,
  block_type: "moe",
  layer_norm_type: "rms",
  attention_layer_norm: true,
  activation_type: "swiglu",
  rope: true,
  include_bias: false,
  clip_qkv: null,
  max_sequence_length: 4096,
  vocab_size: 50_280,
  embedding_size: 50_304,
  eos_token_id: 0,
  pad_token_id: 1,
  moe_num_experts: 64,
  moe_top_k: 8,
};

describe("names of tensors in OLMo's safetensors files", () => {
  // base64.urlsafe_b64encode(pickle.dumps((("transformer.blocks.0.ffn.experts.mlp.w1",), False))) of Python 3.11.
  const pickled = "gASVMAAAAAAAAACMJ3RyYW5zZm9ybWVyLmJsb2Nrcy4wLmZmbi5leHBlcnRzLm1scC53MZSFlImGlC4=";
  const name = "transformer.blocks.0.ffn.experts.mlp.w1";

  it("are Python's pickles in base64", () => {
    expect(encodeOlmoName(name)).toBe(pickled);
    expect(decodeOlmoName(pickled)).toBe(name);
  });

  it("are taken as they are where they are no pickles of a name", () => {
    for (const other of [name, "", "gASV", pickled.slice(0, -8), `A${pickled.slice(1)}`, "\u{1F600}"]) {
      expect(decodeOlmoName(other)).toBe(other);
    }
  });
});

describe("a config.yaml of OLMo", () => {
  it("of the released model is read as that model, with the end of text that its tokenizer has", () => {
    expect(configFromOlmo({ model: released, seed: 6198 }, "c")).toEqual(
      parseModelConfig({
        vocabSize: 50_304,
        hiddenSize: 2048,
        intermediateSize: 1024,
        numHiddenLayers: 16,
        numAttentionHeads: 16,
        numKeyValueHeads: 16,
        numExperts: 64,
        numExpertsPerTok: 8,
        eosTokenId: 50_279,
        padTokenId: 1,
      }),
    );
  });

  it("is read as it was written", () => {
    const config = configFromOlmo({ model: { ...released, clip_qkv: 8, rope_theta: 500 } }, "c");
    expect(config).toMatchObject({ clipQkv: 8, clipQkvPlacement: "before_norm", ropeTheta: 500 });
    expect(configFromOlmo(configToOlmo(config, 50_280), "c")).toEqual(config);
  });

  it("lists everything that is missing or is not read", () => {
    const { n_layers: _, ...model } = { ...released, block_type: "sequential", moe_top_k: "8" };
    expect(() => configFromOlmo({ model }, "c")).toThrow(
      new CheckpointError(
        'c: 3 faults\n  - model.block_type: "sequential", expected "moe"\n  - model.n_layers: missing, expected a number\n  - model.moe_top_k: "8", expected a number',
        { hint: "readable are mixtures of experts of the branch that OLMoE was trained with" },
      ),
    );
    expect(() => configFromOlmo([], "c")).toThrow("c: model: undefined, expected an object");
  });

  it("is not written for a model that OLMo computes in another way", () => {
    const config = parseModelConfig({ ...configFromOlmo({ model: released }, "c"), clipQkv: 8 });
    expect(() => configToOlmo(config, 1)).toThrow("olmo: OLMo's MoE has no place for clipQkv 8 after the norm");
  });
});
