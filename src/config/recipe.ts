/**
 * A training recipe: one complete, reproducible run as data. Read from YAML, checked at the door, stored resolved (all
 * defaults written out) with every checkpoint.
 */
import { z } from "zod";
import { ConfigError } from "../errors.ts";
import { batchWarmupFaults, leastPass } from "./batchWarmup.ts";
import { parseConfig } from "./check.ts";
import { checkTokenFilters, dataSchema, recipeName, recipeSeed, tokenizerSchema } from "./data.ts";
import { modelConfigSchema } from "./model.ts";
import { PRESETS, type PresetName, presetNames } from "./presets.ts";
import { checkRoutingRun } from "./routing.ts";

const positive = z.number().positive();
const share = z.number().min(0).max(1);
const beta = z.number().min(0).lt(1);
/** Tokens of one optimiser step; the paper's have 4 M. */
const MAX_STEP_TOKENS = 2 ** 26;

export const scheduleSchema = z.strictObject({
  /** After warm-up: cosine or a straight line down to `finalRatio` at the last step, or constant. */
  kind: z.enum(["cosine", "linear", "constant"]).default("cosine"),
  warmupSteps: z.int().min(0).default(0),
  /** Warm-up starts at this share of the peak (OLMo: 0.1, not 0). */
  warmupStartRatio: share.default(0.1),
  finalRatio: share.default(0.1),
});

export const optimizerSchema = z.strictObject({
  lr: positive.default(4e-4),
  beta1: beta.default(0.9),
  beta2: beta.default(0.95),
  eps: positive.default(1e-8),
  /** Decoupled; on every parameter except those `noDecay` names. */
  weightDecay: z.number().min(0).default(0.1),
  /** Parameter-name patterns (`*` stands for anything) without decay, such as "*norm.weight". */
  noDecay: z.array(z.string().min(1)).default([]),
  /** Bound on the global gradient norm; null for none. */
  clipNorm: positive.nullable().default(1),
});

export const lossSchema = z.strictObject({
  /** Cross-entropy is summed over the targets and divided by all tokens, as OLMo does, or by the targets. */
  crossEntropyOver: z.enum(["tokens", "targets"]).default("tokens"),
  /** Weight of the load-balancing loss; 0 turns it off. */
  balance: z.number().min(0).default(0.01),
  /** Its scale: the paper's, where perfect balance is 1, or transformers', where it is numExpertsPerTok. */
  balanceScale: z.enum(["paper", "huggingface"]).default("paper"),
  /** Weight of the router z-loss; 0 turns it off, whatever `balance` is. */
  z: z.number().min(0).default(0.001),
  /** Its scale: the training code's, which divides by numExpertsPerTok, or the paper's, which does not. */
  zScale: z.enum(["megablocks", "paper"]).default("megablocks"),
});

/** Another model's weights to start from instead of random ones. */
export const initSchema = z.strictObject({
  /** A model folder or the folder of a training run; relative to the recipe. */
  from: z.string().min(1),
  /** Take over AdamW's moments too, as annealing does; the step counter and the data start anew either way. */
  optimizer: z.boolean().default(false),
});

export const spikesSchema = z.strictObject({
  /** Steps whose losses a new one is held against; judged from half as many on. */
  window: z.int().min(4).max(65_536).default(128),
  /** A spike is a loss this many robust standard deviations above the median of the window. */
  threshold: positive.default(6),
  /** Say so, or go back to the last good checkpoint and leave out the batches that led to it. */
  action: z.enum(["warn", "rewind"]).default("warn"),
  /** Times a run may go back before it stops with an error. */
  maxRewinds: z.int().min(1).default(3),
});

const TRAIN_FIELDS = {
  steps: z.int().min(1),
  /** Sequences in one optimiser step. */
  batchSize: z.int().min(1),
  /** Smaller batches that the run starts with, one stage after the other. */
  batchWarmup: z.array(z.strictObject({ steps: z.int().min(1), batchSize: z.int().min(1) })).default([]),
  /** Sequences in one forward pass; must divide batchSize. Left out: the whole batch. */
  microBatchSize: z.int().min(1).optional(),
  sequenceLength: z.int().min(2),
  /**
   * "bf16" rounds the inputs of matrix products to bf16, adds up in f32 and keeps weights and optimiser in f32, as the paper
   * trained; "auto" does so where the machine multiplies bf16.
   */
  precision: z.enum(["f32", "bf16", "auto"]).default("f32"),
  /** Layers (from 0 on) whose activations are computed again in the backward pass instead of being kept. */
  recompute: z
    .union([z.enum(["none", "all"]), z.array(z.int().min(0))], 'expected "none", "all" or a list of layer numbers')
    .default("none"),
  /** Sequences with an n-gram that is there too often in a row give no cross-entropy (the paper's: 1 to 13 tokens, 32 times). */
  instanceFilter: z
    .strictObject({
      minPeriod: z.int().min(1).default(1),
      maxPeriod: z.int().min(1).default(13),
      maxCount: z.int().min(3).default(32),
    })
    .nullable()
    .default(null),
  /** Attention stops at document borders. The paper's runs do not. */
  documentMask: z.boolean().default(false),
  init: initSchema.optional(),
  /** Parameter-name patterns of what is not trained. */
  freeze: z.array(z.string().min(1)).default([]),
  optimizer: optimizerSchema.prefault({}),
  schedule: scheduleSchema.prefault({}),
  loss: lossSchema.prefault({}),
  /** Steps between held-out evaluations; after the last step all of the held-out text is scored. */
  evalEvery: z.int().min(1).default(100),
  /** Held-out tokens of each source that an evaluation in between scores, spread over the text. */
  evalTokens: z.int().min(1).default(8192),
  /** Steps between records of routing and of norms. */
  monitorEvery: z.int().min(1).default(100),
  /** Write routing traces into the run's folder (docs/routing.md); null for none. */
  trace: z
    .strictObject({
      /** Steps between traces; the last step is always traced. */
      every: z.int().min(1),
      /** Held-out tokens of each source, the same ones each time; 0 for none. */
      heldOutTokens: z.int().min(0).default(8192),
      /** Also the tokens that the step itself trains on. */
      training: z.boolean().default(false),
    })
    .nullable()
    .default(null),
  spikes: spikesSchema.prefault({}),
  /** Steps between checkpoints; the last step is always saved. */
  saveEvery: z.int().min(1).default(100),
  /** Newest checkpoints that are kept. */
  keep: z.int().min(1).default(2),
};

export const trainSchema = z.strictObject(TRAIN_FIELDS).superRefine((train, context) => {
  const { batchSize, microBatchSize, sequenceLength } = train;
  const fault = (key: keyof typeof train, message: string) =>
    context.addIssue({ code: "custom", path: [key], message });
  for (const { path, message } of batchWarmupFaults(train)) {
    context.addIssue({ code: "custom", path: ["batchWarmup", ...path], message });
  }
  if (microBatchSize !== undefined && batchSize % microBatchSize !== 0) {
    fault("microBatchSize", `${microBatchSize}, must divide batchSize (${batchSize})`);
  }
  const most = Math.floor(MAX_STEP_TOKENS / sequenceLength);
  if (batchSize > most)
    fault("batchSize", `${batchSize}, must be at most ${most} sequences of ${sequenceLength} tokens`);
});

/** What is wrong with a choice of layers to recompute. */
function unknownLayer(recompute: TrainRecipe["recompute"], layers: number): string | undefined {
  const unknown = Array.isArray(recompute) ? recompute.find((layer) => layer >= layers) : undefined;
  return unknown === undefined ? undefined : `layer ${unknown}, the model has layers 0 to ${layers - 1}`;
}

/**
 * `train.recompute` as a set of layers.
 * @throws ConfigError for a layer that the model does not have.
 */
export function recomputedLayers(recompute: TrainRecipe["recompute"] = "none", layers: number): ReadonlySet<number> {
  if (recompute === "none") return new Set();
  if (recompute === "all") return new Set(Array.from({ length: layers }, (_, layer) => layer));
  const unknown = unknownLayer(recompute, layers);
  if (unknown !== undefined) throw new ConfigError(`train.recompute: ${unknown}`);
  return new Set(recompute);
}

/** Fields of a model config that may all be left out, without their defaults: those would hide the preset's values. */
const MODEL_FIELDS: Record<string, z.ZodType> = Object.fromEntries(
  Object.entries(modelConfigSchema.shape).map(([key, field]) => [
    key,
    (field instanceof z.ZodDefault ? (field.unwrap() as z.ZodType) : field).optional(),
  ]),
);

/** A model as far as it is known without the tokenizer, whose facts replace the preset's. */
function checkModel({ preset, ...changes }: Readonly<Record<string, unknown>> & { readonly preset?: PresetName }) {
  const base = preset === undefined ? {} : PRESETS[preset];
  const open = { vocabSize: Number.MAX_SAFE_INTEGER, ...base, eosTokenId: null, padTokenId: null };
  return modelConfigSchema.safeParse({ ...open, ...changes });
}

/** A preset's name with changes, or a whole model config. What the tokenizer knows may be left to it. */
const modelSchema = z
  .strictObject({ ...MODEL_FIELDS, preset: z.enum(presetNames).exactOptional() })
  .superRefine((model, context) => {
    for (const issue of checkModel(model).error?.issues ?? []) context.addIssue({ ...issue });
  });

export const recipeSchema = z
  .strictObject({
    name: recipeName,
    seed: recipeSeed,
    model: modelSchema,
    tokenizer: tokenizerSchema,
    data: dataSchema,
    train: trainSchema,
  })
  .superRefine(({ model, tokenizer, data, train }, context) => {
    checkTokenFilters(data.filters, tokenizer, ["data", "filters"], context);
    const fault = (path: readonly string[], message: string) =>
      context.addIssue({ code: "custom", path: [...path], message });
    const { data: config } = checkModel(model);
    if (config === undefined) return;
    if ("vocabSize" in model && config.vocabSize < (tokenizer.vocabSize ?? 0)) {
      const entries = `tokenizer.vocabSize (${tokenizer.vocabSize})`;
      fault(["model", "vocabSize"], `${config.vocabSize}, must be at least ${entries}, or left out`);
    }
    const unknown = unknownLayer(train.recompute, config.numHiddenLayers);
    if (unknown !== undefined) fault(["train", "recompute"], unknown);
    if (train.sequenceLength > config.maxPositionEmbeddings) {
      const positions = `model.maxPositionEmbeddings (${config.maxPositionEmbeddings})`;
      fault(["train", "sequenceLength"], `${train.sequenceLength}, must be at most ${positions}`);
    }
    const { sequenceLength, loss } = train;
    checkRoutingRun(config, { balance: loss.balance, sequenceLength, sequences: leastPass(train) }, fault);
  });

export type Recipe = z.output<typeof recipeSchema>;
export type TrainRecipe = z.output<typeof trainSchema>;
export type OptimizerRecipe = z.output<typeof optimizerSchema>;
export type LossRecipe = z.output<typeof lossSchema>;
export type SpikeRecipe = z.output<typeof spikesSchema>;
export type ScheduleRecipe = z.output<typeof scheduleSchema>;

/**
 * Checks a recipe and fills in defaults.
 * @param place the file it came from, for messages.
 * @throws ConfigError listing every fault.
 */
export function parseRecipe(value: unknown, place = "recipe"): Recipe {
  return parseConfig(recipeSchema, value, place, "see docs/configuration.md for every key");
}
