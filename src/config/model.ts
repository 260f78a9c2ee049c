/**
 * Model configuration. Keys are Hugging Face's, camelCased; on disk they keep their snake_case (config/huggingface.ts).
 */
import { z } from "zod";
import { architectureFields, checkArchitecture } from "./architecture.ts";
import { parseConfig } from "./check.ts";
import { checkRouting, routingFields } from "./routing.ts";

const count = z.int().min(1);
const ratio = z.number().positive();
/** Experts of all layers together: each is a few tensors with names of their own. */
const MAX_EXPERTS = 2 ** 18;

/** Every field of a model; those with a default may be left out. */
export const modelConfigSchema = z
  .strictObject({
    /** Rows of the embedding; at least the tokenizer's entries. */
    vocabSize: count,
    hiddenSize: count,
    /** Inner width of one expert, or of the whole MLP of a dense model. */
    intermediateSize: count,
    numHiddenLayers: count,
    numAttentionHeads: count,
    numKeyValueHeads: count,
    /** What follows attention in each layer: experts, or one SwiGLU (the dense twin). */
    mlpType: z.enum(["moe", "dense"]).default("moe"),
    numExperts: z.int().min(1).default(1),
    numExpertsPerTok: z.int().min(1).default(1),
    /** Divide the chosen experts' probabilities by their sum. The released models do not. */
    normTopkProb: z.boolean().default(false),
    ...routingFields,
    /** Bound on q, k and v, of q and k where `clipQkvPlacement` says; null for none. */
    clipQkv: ratio.nullable().default(null),
    maxPositionEmbeddings: count.default(4096),
    ropeTheta: ratio.default(10_000),
    rmsNormEps: ratio.default(1e-5),
    /** Standard deviation of the initial weights, cut at `initializerCutoffFactor` deviations; see `initialization`. */
    initializerRange: ratio.default(0.02),
    initializerCutoffFactor: ratio.default(3),
    tieWordEmbeddings: z.boolean().default(false),
    /** Coefficient transformers applies to its own balance loss when it fine-tunes the model; not used by `olmoe train`. */
    routerAuxLossCoef: z.number().min(0).default(0.01),
    eosTokenId: z.int().min(0).nullable().default(null),
    padTokenId: z.int().min(0).nullable().default(null),
    ...architectureFields,
  })
  .superRefine((config, context) => {
    const fault = (path: keyof typeof config, message: string) =>
      context.addIssue({ code: "custom", path: [path], message });
    if (config.numExpertsPerTok > config.numExperts) {
      fault("numExpertsPerTok", `${config.numExpertsPerTok}, must be at most numExperts (${config.numExperts})`);
    }
    if (config.numHiddenLayers * config.numExperts > MAX_EXPERTS) {
      fault("numExperts", `${config.numExperts}, in ${config.numHiddenLayers} layers; at most ${MAX_EXPERTS} in all`);
    }
    if (config.mlpType === "dense" && config.numExperts !== 1) {
      fault("numExperts", `${config.numExperts}, must be 1 where mlpType is "dense"`);
    }
    if (config.hiddenSize % config.numAttentionHeads !== 0) {
      fault(
        "hiddenSize",
        `${config.hiddenSize}, must be a multiple of numAttentionHeads (${config.numAttentionHeads})`,
      );
    } else if ((config.hiddenSize / config.numAttentionHeads) % 2 !== 0) {
      fault("hiddenSize", `${config.hiddenSize} / numAttentionHeads is odd, rotary positions need pairs of channels`);
    }
    if (config.numAttentionHeads % config.numKeyValueHeads !== 0) {
      fault(
        "numKeyValueHeads",
        `${config.numKeyValueHeads}, must divide numAttentionHeads (${config.numAttentionHeads})`,
      );
    }
    for (const key of ["eosTokenId", "padTokenId"] as const) {
      const id = config[key];
      if (id !== null && id >= config.vocabSize) fault(key, `${id}, must be below vocabSize (${config.vocabSize})`);
    }
    checkRouting(config, fault);
    checkArchitecture(config, fault);
  });

export type ModelConfig = Readonly<z.output<typeof modelConfigSchema>>;
export type ModelConfigInput = z.input<typeof modelConfigSchema>;

/**
 * Checks a model config and fills in defaults.
 * @throws ConfigError listing every fault.
 */
export function parseModelConfig(value: unknown, place = "model config"): ModelConfig {
  return parseConfig(modelConfigSchema, value, place);
}

/** Channels of one attention head. */
export function headDim(config: ModelConfig): number {
  return config.hiddenSize / config.numAttentionHeads;
}
