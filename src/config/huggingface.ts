/**
 * Hugging Face's `config.json` of `OlmoeForCausalLM` <-> a model config. Reads what transformers 4 and 5 write, fills in
 * the defaults of transformers' class, and refuses what this library does not compute. Keys are ours in snake_case. What
 * transformers can not compute has another model type (variant.ts).
 * Source of keys and defaults: transformers, models/olmoe/configuration_olmoe.py.
 */
import { z } from "zod";
import { parseConfig } from "./check.ts";
import { type ModelConfig, type ModelConfigInput, modelConfigSchema, parseModelConfig } from "./model.ts";
import {
  addSnakeFaults,
  expressibleEntries,
  fromVariant,
  isVariant,
  snakeCase,
  VARIANT_ARCHITECTURE,
  VARIANT_TYPE,
  variantKeysAtDefault,
  variantSchema,
} from "./variant.ts";

const HINT =
  'readable are configs of model_type "olmoe" with silu, default rotary positions, no biases and no quantised weights';

const VARIANT_HINT = `a config of model_type "${VARIANT_TYPE}" has this library's keys in snake_case, and no others`;

const CLASS_DEFAULTS = { eosTokenId: 50_279, padTokenId: 1 } as const;

const fields = modelConfigSchema.shape;

const ropeSchema = z
  .strictObject({
    rope_theta: z.number().positive().optional(),
    rope_type: z.literal("default").optional(),
    type: z.literal("default").optional(),
    partial_rotary_factor: z.literal(1).optional(),
  })
  .nullish();

const tokenIdSchema = z.union([z.int().min(0), z.tuple([z.int().min(0)])], { error: "expected one token id" });

/** What the file may say; keys that change no value, such as torch_dtype, are not listed and pass unread. */
const huggingFaceSchema = z
  .object({
    model_type: z.literal("olmoe"),
    vocab_size: fields.vocabSize.default(50_304),
    hidden_size: fields.hiddenSize.default(2048),
    // transformers' class says 2048; the released model writes 1024.
    intermediate_size: fields.intermediateSize.default(2048),
    num_hidden_layers: fields.numHiddenLayers.default(16),
    num_attention_heads: fields.numAttentionHeads.default(16),
    num_key_value_heads: fields.numKeyValueHeads.nullish(),
    num_experts: fields.numExperts.default(64),
    num_experts_per_tok: fields.numExpertsPerTok.default(8),
    norm_topk_prob: fields.normTopkProb,
    clip_qkv: fields.clipQkv,
    max_position_embeddings: fields.maxPositionEmbeddings,
    rms_norm_eps: fields.rmsNormEps,
    initializer_range: fields.initializerRange,
    tie_word_embeddings: fields.tieWordEmbeddings,
    router_aux_loss_coef: fields.routerAuxLossCoef,
    rope_theta: z.number().positive().optional(),
    rope_parameters: ropeSchema,
    rope_scaling: ropeSchema,
    eos_token_id: tokenIdSchema.nullish(),
    pad_token_id: tokenIdSchema.nullish(),
    // Additions of this library; transformers keeps them.
    mlp_type: fields.mlpType,
    initializer_cutoff_factor: fields.initializerCutoffFactor,
    initialization: fields.initialization,
    expert_capacity_factor: fields.expertCapacityFactor,
    softmax_after_topk: fields.softmaxAfterTopk,
    ...variantKeysAtDefault,
    // Parts of transformers' class that are not computed here.
    hidden_act: z.literal("silu").default("silu"),
    attention_bias: z.literal(false).default(false),
    attention_dropout: z.literal(0).default(0),
    quantization_config: z.null().optional(),
    head_dim: z.int().nullish(),
    num_local_experts: z.int().nullish(),
  })
  .superRefine((hf, context) => {
    const fault = (path: string, message: string) => context.addIssue({ code: "custom", path: [path], message });
    const headDim = hf.hidden_size / hf.num_attention_heads;
    if ((hf.head_dim ?? headDim) !== headDim) {
      fault("head_dim", `${hf.head_dim}, must be hidden_size / num_attention_heads (${headDim})`);
    }
    if ((hf.num_local_experts ?? hf.num_experts) !== hf.num_experts) {
      fault("num_local_experts", `${hf.num_local_experts}, must be num_experts (${hf.num_experts})`);
    }
    const thetas = [hf.rope_parameters?.rope_theta, hf.rope_scaling?.rope_theta, hf.rope_theta].filter(isGiven);
    if (new Set(thetas).size > 1) fault("rope_theta", `given as ${thetas.join(" and as ")}`);
    addSnakeFaults(toModel(hf), context);
  });

type HuggingFaceConfig = z.output<typeof huggingFaceSchema>;

function isGiven<T>(value: T | undefined): value is T {
  return value !== undefined;
}

/** A token id; where the file has none, transformers' default as far as the vocabulary has it. */
function tokenId(hf: HuggingFaceConfig, key: "eosTokenId" | "padTokenId"): number | null {
  const given = key === "eosTokenId" ? hf.eos_token_id : hf.pad_token_id;
  if (given === undefined) return CLASS_DEFAULTS[key] < hf.vocab_size ? CLASS_DEFAULTS[key] : null;
  return Array.isArray(given) ? given[0] : given;
}

function toModel(hf: HuggingFaceConfig): ModelConfigInput {
  return {
    vocabSize: hf.vocab_size,
    hiddenSize: hf.hidden_size,
    intermediateSize: hf.intermediate_size,
    numHiddenLayers: hf.num_hidden_layers,
    numAttentionHeads: hf.num_attention_heads,
    numKeyValueHeads: hf.num_key_value_heads ?? hf.num_attention_heads,
    mlpType: hf.mlp_type,
    numExperts: hf.num_experts,
    numExpertsPerTok: hf.num_experts_per_tok,
    // Written as true for softmax after top-k, which is the same function.
    normTopkProb: hf.norm_topk_prob && !hf.softmax_after_topk,
    expertCapacityFactor: hf.expert_capacity_factor,
    softmaxAfterTopk: hf.softmax_after_topk,
    clipQkv: hf.clip_qkv,
    maxPositionEmbeddings: hf.max_position_embeddings,
    ropeTheta: hf.rope_parameters?.rope_theta ?? hf.rope_scaling?.rope_theta ?? hf.rope_theta ?? 10_000,
    rmsNormEps: hf.rms_norm_eps,
    initializerRange: hf.initializer_range,
    initializerCutoffFactor: hf.initializer_cutoff_factor,
    initialization: hf.initialization,
    tieWordEmbeddings: hf.tie_word_embeddings,
    routerAuxLossCoef: hf.router_aux_loss_coef,
    eosTokenId: tokenId(hf, "eosTokenId"),
    padTokenId: tokenId(hf, "padTokenId"),
  };
}

/**
 * Reads a parsed `config.json`.
 * @param place the file, for messages.
 * @throws ConfigError listing every fault: another model type, wrong values, or parts that are not computed here
 *   (biases, another activation, scaled rotary positions, dropout, quantised weights).
 */
export function configFromHuggingFace(json: unknown, place: string): ModelConfig {
  if ((json as { readonly model_type?: unknown } | null)?.model_type === VARIANT_TYPE) {
    return parseModelConfig(fromVariant(parseConfig(variantSchema, json, place, VARIANT_HINT)), place);
  }
  return parseModelConfig(toModel(parseConfig(huggingFaceSchema, json, place, HINT)), place);
}

/** Type of the weights beside a config, as transformers names it. */
export type TorchDType = "float32" | "float16" | "bfloat16";

/**
 * The `config.json` of a model, in the form that transformers 4 and 5 both load; that of a variant they refuse.
 *
 * A dense model is written as one expert that every token chooses: a softmax over one expert is 1, so transformers
 * computes the same function. The extra key `mlp_type` tells it apart when it is read back.
 */
export function configToHuggingFace(config: ModelConfig, torchDType: TorchDType = "float32"): Record<string, unknown> {
  const inSnakeCase = (entries: readonly [string, unknown][]) =>
    Object.fromEntries(entries.map(([key, value]) => [snakeCase(key), value]));
  if (isVariant(config)) {
    const head = { architectures: [VARIANT_ARCHITECTURE], model_type: VARIANT_TYPE, torch_dtype: torchDType };
    return { ...head, ...inSnakeCase(Object.entries(config)) };
  }
  return {
    architectures: ["OlmoeForCausalLM"],
    model_type: "olmoe",
    torch_dtype: torchDType,
    hidden_act: "silu",
    attention_bias: false,
    attention_dropout: 0,
    rope_scaling: null,
    output_router_logits: false,
    use_cache: true,
    ...inSnakeCase(expressibleEntries(config)),
  };
}
