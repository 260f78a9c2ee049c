/** The one place where the training benchmark meets the trainer. */
import type { Backend } from "../src/backend/backend.ts";
import type { ModelConfig } from "../src/config/model.ts";
import type { TrainRecipe } from "../src/config/recipe.ts";
import { Decoder } from "../src/model/decoder.ts";
import { Parameters } from "../src/model/parameters.ts";
import { type StepOptions, TrainStep } from "../src/train/step.ts";

export interface TrainWorkload {
  readonly config: ModelConfig;
  readonly train: TrainRecipe;
  readonly seed: number;
  /** [batchSize, sequenceLength], the batch of every step; labels are the same ids, shifted within the loss. */
  readonly ids: Int32Array;
}

/** Does one whole step (forward, backward, clipping, AdamW) on the same batch and returns its loss. */
export type WorkloadStep = () => number | Promise<number>;

/** The model and the trainer of a workload on a backend. */
export interface WorkloadTrainer {
  readonly parameters: Parameters;
  readonly step: () => number;
}

export function createWorkload(
  backend: Backend,
  { config, train, seed, ids }: TrainWorkload,
  onPhase?: StepOptions["onPhase"],
): WorkloadTrainer {
  const parameters = new Parameters(backend, config, { trainable: true });
  parameters.initialise(seed);
  const { sequenceLength, batchSize, loss, optimizer, recompute } = train;
  const microBatchSize = train.microBatchSize ?? batchSize;
  const decoder = new Decoder(backend, parameters);
  const options = { sequenceLength, microBatchSize, loss, optimizer, recompute, onPhase };
  const trainer = new TrainStep(backend, decoder, options);
  const labels = ids.map((_, index) => ((index + 1) % sequenceLength === 0 ? -100 : (ids[index + 1] as number)));
  return { parameters, step: () => trainer.run({ ids, labels }, optimizer.lr).loss };
}

/** Builds the model and the optimiser on a backend. */
export async function ourTrainStep(backend: Backend, workload: TrainWorkload): Promise<WorkloadStep> {
  return createWorkload(backend, workload).step;
}
