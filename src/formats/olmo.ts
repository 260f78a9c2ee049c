/**
 * OLMo's own checkpoints, unsharded: `config.yaml` and `model.safetensors` (allenai/OLMo, branch Muennighoff/MoE). The
 * experts of a layer are joined along the rows, and `w2` lies input by output, so that it is the transpose of what others
 * call the down projection. Tensor names in the file are Python pickles in base64 (olmo/safetensors_util.py); plain names
 * are read as well.
 */
import type { ModelConfig } from "../config/model.ts";
import { parseModelConfig } from "../config/model.ts";
import { variantChoices } from "../config/variant.ts";
import { CheckpointError, UnsupportedError } from "../errors.ts";
import { isJsonObject, quoted } from "./json.ts";
import { type LaidTensor, laid, sliceShapes } from "./layout.ts";

export const OLMO_CONFIG = "config.yaml";
export const OLMO_WEIGHTS = "model.safetensors";

/** Tensors of a layer that are one of Hugging Face's each. */
const BLOCK: readonly (readonly [olmo: string, huggingFace: string])[] = [
  ["attn_out.weight", "self_attn.o_proj"],
  ["q_norm.weight", "self_attn.q_norm"],
  ["k_norm.weight", "self_attn.k_norm"],
  ["attn_norm.weight", "input_layernorm"],
  ["ff_norm.weight", "post_attention_layernorm"],
  ["ffn.router.layer.weight", "mlp.gate"],
];

const EXPERTS = { w1: "gate", v1: "up", w2: "down" } as const;

/** Matrices one below the other. */
function joined(
  name: string,
  slices: readonly string[],
  shapes: ReadonlyMap<string, readonly number[]>,
  transposed = false,
): LaidTensor {
  const parts = slices.map((name) => ({ name, shape: shapes.get(name) as readonly number[], transposed }));
  const stored = parts.map(({ shape }) => (transposed ? shape.toReversed() : shape));
  const rows = stored.reduce((sum, [count = 0]) => sum + count, 0);
  return { name, shape: [rows, stored[0]?.[1] ?? 0], slices: parts };
}

/** The tensors of a model. @param config one that OLMo's checkpoints can hold. */
export function olmoLayout(config: ModelConfig): LaidTensor[] {
  const shapes = sliceShapes(config);
  const tensors = [laid("transformer.wte.weight", "model.embed_tokens.weight", shapes)];
  for (let layer = 0; layer < config.numHiddenLayers; layer++) {
    const [own, other] = [`transformer.blocks.${layer}`, `model.layers.${layer}`];
    const qkv = ["q", "k", "v"].map((part) => `${other}.self_attn.${part}_proj.weight`);
    tensors.push(joined(`${own}.att_proj.weight`, qkv, shapes));
    for (const [olmo, huggingFace] of BLOCK) {
      tensors.push(laid(`${own}.${olmo}`, `${other}.${huggingFace}.weight`, shapes));
    }
    for (const [olmo, part] of Object.entries(EXPERTS)) {
      const experts = Array.from(
        { length: config.numExperts },
        (_, expert) => `${other}.mlp.experts.${expert}.${part}_proj.weight`,
      );
      tensors.push(joined(`${own}.ffn.experts.mlp.${olmo}`, experts, shapes, part === "down"));
    }
  }
  tensors.push(laid("transformer.ln_f.weight", "model.norm.weight", shapes));
  if (!config.tieWordEmbeddings) tensors.push(laid("transformer.ff_out.weight", "lm_head.weight", shapes));
  return tensors;
}

// The pickle (protocol 4) of a tuple of a tuple of one name, and False.
const PICKLE_HEAD = [0x80, 0x04, 0x95];
const SHORT_TEXT = 0x8c;
const PICKLE_TAIL = [0x94, 0x85, 0x94, 0x89, 0x86, 0x94, 0x2e];
/** Bytes before the frame: head and the frame's length. */
const FRAME_START = 11;

/** A tensor's name in the file. */
export function encodeOlmoName(name: string): string {
  const text = new TextEncoder().encode(name);
  const frame = Uint8Array.of(SHORT_TEXT, text.byteLength, ...text, ...PICKLE_TAIL);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(frame.byteLength), true);
  const pickle = Uint8Array.of(...PICKLE_HEAD, ...length, ...frame);
  return btoa(String.fromCharCode(...pickle))
    .replaceAll("+", "-")
    .replaceAll("/", "_");
}

/** The tensor that a name in a file stands for: decoded where it is a pickle of a name, else itself. */
export function decodeOlmoName(stored: string): string {
  let bytes: Uint8Array;
  try {
    const binary = atob(stored.replaceAll("-", "+").replaceAll("_", "/"));
    bytes = Uint8Array.from(binary, (character) => character.charCodeAt(0));
  } catch {
    return stored;
  }
  const length = bytes[FRAME_START + 1] ?? 0;
  const start = FRAME_START + 2;
  const [head, tail] = [bytes.subarray(0, 3), bytes.subarray(start + length)];
  const protocol = bytes[1];
  const isName =
    head[0] === PICKLE_HEAD[0] &&
    (protocol === 4 || protocol === 5) &&
    head[2] === PICKLE_HEAD[2] &&
    bytes[FRAME_START] === SHORT_TEXT &&
    tail.length === PICKLE_TAIL.length &&
    tail.every((byte, index) => byte === PICKLE_TAIL[index]);
  return isName ? new TextDecoder().decode(bytes.subarray(start, start + length)) : stored;
}

/** What the released models have, and all that is read; a key that is absent has this value. */
const FIXED = {
  block_type: "moe",
  activation_type: "swiglu",
  layer_norm_type: "rms",
  attention_layer_norm: true,
  rope: true,
  alibi: false,
  include_bias: false,
} as const;

/** Keys of other branches of OLMo, of which only the absence of what they name is read. */
const ABSENT = {
  norm_after: false,
  moe_interleave: false,
  moe_shared_expert: false,
  moe_expert_choice: false,
} as const;

/**
 * The model that a parsed `config.yaml` describes.
 * @throws CheckpointError listing every key that is missing or asks for what is not read; ConfigError for numbers that do
 *   not fit each other.
 */
export function configFromOlmo(yaml: unknown, place: string): ModelConfig {
  const model = isJsonObject(yaml) ? yaml.model : undefined;
  if (!isJsonObject(model)) throw new CheckpointError(`${place}: model: ${quoted(model)}, expected an object`);
  const faults: string[] = [];
  const number = (key: string, fallback?: number): number => {
    const value = model[key] ?? fallback;
    if (typeof value === "number") return value;
    faults.push(`model.${key}: ${value === undefined ? "missing" : quoted(value)}, expected a number`);
    return 1;
  };
  for (const [key, value] of Object.entries({ ...FIXED, ...ABSENT })) {
    const found = model[key] ?? value;
    if (found !== value) faults.push(`model.${key}: ${quoted(found)}, expected ${quoted(value)}`);
  }
  const width = number("d_model");
  const heads = number("n_heads");
  const vocabSize = number("vocab_size");
  // SwiGLU halves OLMo's hidden size.
  const hidden = number("mlp_hidden_size", number("mlp_ratio", 4) * width);
  const eos = number("eos_token_id", 0);
  const fields = {
    vocabSize: number("embedding_size", vocabSize),
    hiddenSize: width,
    intermediateSize: hidden / 2,
    numHiddenLayers: number("n_layers"),
    numAttentionHeads: heads,
    numKeyValueHeads: number("n_kv_heads", heads),
    numExperts: number("moe_num_experts"),
    numExpertsPerTok: number("moe_top_k"),
    normTopkProb: model.moe_normalize_expert_weights === 1 || model.moe_normalize_expert_weights === true,
    clipQkv: model.clip_qkv ?? null,
    ...(model.clip_qkv == null ? {} : { clipQkvPlacement: "before_norm" }),
    maxPositionEmbeddings: number("max_sequence_length"),
    ropeTheta: number("rope_theta", 10_000),
    rmsNormEps: number("layer_norm_eps", 1e-5),
    initializerRange: number("init_std", 0.02),
    tieWordEmbeddings: (model.weight_tying ?? true) === true,
    // The released configs say 0, which was the end of text of an earlier tokenizer.
    eosTokenId: eos === 0 && vocabSize === 50_280 ? 50_279 : eos,
    padTokenId: number("pad_token_id", 1),
  };
  if (faults.length > 0) {
    throw new CheckpointError(
      `${place}: ${faults.length === 1 ? faults[0] : `${faults.length} faults\n${faults.map((fault) => `  - ${fault}`).join("\n")}`}`,
      {
        hint: "readable are mixtures of experts of the branch that OLMoE was trained with",
      },
    );
  }
  return parseModelConfig(fields, place);
}

/**
 * The `config.yaml` of a model, as an object. Its training settings are not known and left out.
 * @param entries of the tokenizer; the embedding may have more rows.
 * @throws UnsupportedError naming every choice that OLMo's MoE does not have.
 */
export function configToOlmo(config: ModelConfig, entries: number): Record<string, unknown> {
  const choices: Record<string, unknown> = variantChoices(config);
  if (config.clipQkv !== null && config.clipQkvPlacement === "before_norm") delete choices.clipQkvPlacement;
  else if (config.clipQkv !== null) choices.clipQkv = `${config.clipQkv} after the norm`;
  if (config.softmaxAfterTopk) choices.softmaxAfterTopk = true;
  if (config.mlpType === "dense") choices.mlpType = "dense";
  const named = Object.entries(choices).map(([key, value]) => `${key} ${String(value)}`);
  if (named.length > 0) throw new UnsupportedError(`olmo: OLMo's MoE has no place for ${named.join(", ")}`);
  return {
    model: {
      ...FIXED,
      d_model: config.hiddenSize,
      n_heads: config.numAttentionHeads,
      n_kv_heads: config.numKeyValueHeads,
      n_layers: config.numHiddenLayers,
      mlp_ratio: 1,
      mlp_hidden_size: 2 * config.intermediateSize,
      moe_num_experts: config.numExperts,
      moe_top_k: config.numExpertsPerTok,
      moe_dropless: true,
      // Keys that not every version of OLMo knows are left out where they change nothing.
      ...(config.normTopkProb ? { moe_normalize_expert_weights: 1 } : {}),
      ...(config.ropeTheta === 10_000 ? {} : { rope_theta: config.ropeTheta }),
      ...(config.rmsNormEps === 1e-5 ? {} : { layer_norm_eps: config.rmsNormEps }),
      weight_tying: config.tieWordEmbeddings,
      layer_norm_with_affine: true,
      attention_layer_norm_with_affine: true,
      bias_for_layer_norm: false,
      clip_qkv: config.clipQkv,
      max_sequence_length: config.maxPositionEmbeddings,
      vocab_size: entries,
      embedding_size: config.vocabSize,
      init_std: config.initializerRange,
      eos_token_id: config.eosTokenId ?? 0,
      pad_token_id: config.padTokenId ?? 1,
    },
  };
}
