/**
 * Models that transformers' `OlmoeForCausalLM` can not compute: their `config.json` has a model type of its own, so that
 * transformers refuses them instead of loading them as something else, and every field of ours in snake_case.
 */
import { z } from "zod";
import { type ModelConfig, modelConfigSchema } from "./model.ts";

const fields = modelConfigSchema.shape;
type Key = keyof typeof fields;

/** Fields whose values change nothing that transformers' class computes of a trained model; written where not at default. */
const OWN: readonly Key[] = ["initialization", "expertCapacityFactor", "softmaxAfterTopk"];

/** Fields that transformers' class has, or computes something equal for. */
const EXPRESSIBLE: readonly Key[] = [
  ...OWN,
  "vocabSize",
  "hiddenSize",
  "intermediateSize",
  "numHiddenLayers",
  "numAttentionHeads",
  "numKeyValueHeads",
  "mlpType",
  "numExperts",
  "numExpertsPerTok",
  "normTopkProb",
  "clipQkv",
  "maxPositionEmbeddings",
  "ropeTheta",
  "rmsNormEps",
  "initializerRange",
  "initializerCutoffFactor",
  "tieWordEmbeddings",
  "routerAuxLossCoef",
  "eosTokenId",
  "padTokenId",
];

/** The other fields, each with the value at which the model is one of transformers'. */
const VARIANT_DEFAULTS = (Object.keys(fields) as Key[])
  .filter((key) => !EXPRESSIBLE.includes(key))
  .map((key) => [key, fields[key].parse(undefined)] as const);

/** What a model has otherwise than transformers' class. */
export function variantChoices(config: ModelConfig): Partial<ModelConfig> {
  const choices = VARIANT_DEFAULTS.filter(([key, value]) => config[key] !== value);
  return Object.fromEntries(choices.map(([key]) => [key, config[key]]));
}

/** Whether transformers' class can not compute this model. */
export function isVariant(config: ModelConfig): boolean {
  return Object.keys(variantChoices(config)).length > 0;
}

/** The fields of a config that is no variant: those whose only value is their default are left out. */
export function expressibleEntries(config: ModelConfig): [string, unknown][] {
  const keys = new Set<string>(VARIANT_DEFAULTS.map(([key]) => key));
  for (const key of OWN) if (config[key] === fields[key].parse(undefined)) keys.add(key);
  // transformers' name for the same function.
  const named = { ...config, normTopkProb: config.normTopkProb || config.softmaxAfterTopk };
  return Object.entries(named).filter(([key]) => !keys.has(key));
}

/** Keys of variants in a file of transformers' model type: only the value that changes nothing passes. */
export const variantKeysAtDefault: object = Object.fromEntries(
  VARIANT_DEFAULTS.map(([key, value]) => [
    snakeCase(key),
    z.literal(value as string | number | boolean | null).optional(),
  ]),
);

export const VARIANT_TYPE = "olmoe_variant";
export const VARIANT_ARCHITECTURE = "OlmoeVariantForCausalLM";

/** A variant's `config.json`: our fields, checked together as a model config is. */
export const variantSchema = z
  .strictObject({
    architectures: z.tuple([z.literal(VARIANT_ARCHITECTURE)]),
    model_type: z.literal(VARIANT_TYPE),
    torch_dtype: z.enum(["float32", "float16", "bfloat16"]),
    ...(Object.fromEntries(Object.entries(fields).map(([key, field]) => [snakeCase(key), field])) as object),
  })
  .superRefine((json, context) => addSnakeFaults(fromVariant(json), context));

/** The fields of a checked file under our keys. */
export function fromVariant(json: object): Record<string, unknown> {
  const values = json as Readonly<Record<string, unknown>>;
  return Object.fromEntries(Object.keys(fields).map((key) => [key, values[snakeCase(key)]]));
}

/** Reports the faults between fields of a model config by the file's keys. */
export function addSnakeFaults(model: unknown, context: z.RefinementCtx): void {
  for (const issue of modelConfigSchema.safeParse(model).error?.issues ?? []) {
    // Faults of single fields are reported by those fields themselves.
    if (issue.code !== "custom") continue;
    const path = [issue.path.map((key) => snakeCase(String(key))).join(".")];
    context.addIssue({ code: "custom", path, message: withSnakeKeys(issue.message) });
  }
}

export function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A message about our keys, in the file's keys. */
function withSnakeKeys(message: string): string {
  return message.replace(/[A-Za-z]+/g, (word) => (word in fields ? snakeCase(word) : word));
}
