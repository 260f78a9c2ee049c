/** What a run will take: parameters, memory, arithmetic, disk and time, before it starts. */
import type { Backend } from "../backend/backend.ts";
import { fullSteps, plannedTokens } from "../config/batchWarmup.ts";
import type { ModelConfig } from "../config/model.ts";
import type { TrainRecipe } from "../config/recipe.ts";
import { countParameters, flopsPerToken, type ParameterCounts } from "../model/counts.ts";
import { type CalibrationOptions, calibrate } from "./calibrate.ts";
import {
  type InferenceMemory,
  inferenceMemory,
  type TrainingMemory,
  totalBytes,
  trainingMemory,
} from "./trainingMemory.ts";

/** Before the program itself is measured: Node with this library and its kernels' scratch memory. */
const USUAL_RUNTIME_BYTES = 110e6;

/** Memory of a run by part. */
export interface RunMemory extends TrainingMemory {
  /** Node, libraries, heap and the kernels' scratch memory, measured in this process. */
  readonly runtime: number;
}

export interface RunEstimate {
  readonly parameters: ParameterCounts;
  readonly memory: RunMemory;
  /** Resident memory at its largest: the sum of the parts. The text that a run holds comes on top. */
  readonly peakBytes: number;
  /** Active matrix-product FLOPs of a token at the recipe's length: see `flopsPerToken`. */
  readonly flops: { readonly forward: number; readonly training: number };
  readonly steps: number;
  readonly tokens: number;
  /** One checkpoint. */
  readonly checkpointBytes: number;
  /** Checkpoints that are kept, and one more while it is written. */
  readonly diskBytes: number;
  /** Of the full batch. Null where not even a cut-down model fits in memory. */
  readonly secondsPerStep: number | null;
  /** Of all training steps, without evaluations and checkpoints. */
  readonly seconds: number | null;
}

/** How `estimateRun` measures; see `calibrate`. */
export type EstimateOptions = CalibrationOptions & { readonly backend: Backend };

/**
 * Estimates a training run. Steps of a cut-down model are timed for it, which takes a few seconds.
 * @throws the signal's reason when it is aborted; ConfigError for a layer to recompute that the model does not have.
 */
export async function estimateRun(
  config: ModelConfig,
  train: TrainRecipe,
  { backend, ...options }: EstimateOptions,
): Promise<RunEstimate> {
  const { steps, batchSize, sequenceLength, keep } = train;
  // A step of a smaller batch takes its share.
  const equalSteps = fullSteps(train, steps);
  const run = { ...train, microBatchSize: train.microBatchSize ?? batchSize };
  const parts = trainingMemory(config, run);
  const calibration = await calibrate(backend, config, run, options);
  const memory = { ...parts, runtime: calibration?.runtimeBytes ?? USUAL_RUNTIME_BYTES };
  const parameters = countParameters(config);
  const { forward, training } = flopsPerToken(config, sequenceLength);
  // Weights and both moments in f32.
  const checkpointBytes = 12 * parameters.total;
  const secondsPerStep = calibration?.secondsPerStep ?? null;
  return {
    parameters,
    memory,
    peakBytes: totalBytes(memory),
    flops: { forward, training },
    steps,
    tokens: plannedTokens(train),
    checkpointBytes,
    diskBytes: (keep + 1) * checkpointBytes,
    secondsPerStep,
    seconds: secondsPerStep === null ? null : equalSteps * secondsPerStep,
  };
}

export interface ModelEstimate {
  readonly parameters: ParameterCounts;
  /** Of one sequence that fills the context, its prompt read in one pass. */
  readonly memory: InferenceMemory & { readonly runtime: number };
  readonly peakBytes: number;
  readonly context: number;
  readonly flops: { readonly forward: number; readonly training: number };
}

/** Estimates running a model. @param residentBytes resident memory of this process. */
export function estimateModel(config: ModelConfig, residentBytes = USUAL_RUNTIME_BYTES): ModelEstimate {
  const context = config.maxPositionEmbeddings;
  const memory = { ...inferenceMemory(config, context, context), runtime: residentBytes };
  const { forward, training } = flopsPerToken(config, context);
  return {
    parameters: countParameters(config),
    memory,
    peakBytes: totalBytes(memory),
    context,
    flops: { forward, training },
  };
}
