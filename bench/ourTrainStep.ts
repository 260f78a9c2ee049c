/** The one place where the training benchmark meets the trainer. */
import type { Backend } from "../src/backend/backend.ts";
import type { ModelConfig } from "../src/config/model.ts";
import type { TrainRecipe } from "../src/config/recipe.ts";
import { Decoder } from "../src/model/decoder.ts";
import { Parameters } from "../src/model/parameters.ts";
import { TrainStep } from "../src/train/step.ts";

export interface TrainWorkload {
  readonly config: ModelConfig;
  readonly train: TrainRecipe;
  readonly seed: number;
  /** [batchSize, sequenceLength], the batch of every step; labels are the same ids, shifted within the loss. */
  readonly ids: Int32Array;
}

/** Does one whole step (forward, backward, clipping, AdamW) on the same batch and returns its loss. */
export type WorkloadStep = () => number | Promise<number>;

/** Builds the model and the optimiser on a backend. */
export async function ourTrainStep(
  backend: Backend,
  { config, train, seed, ids }: TrainWorkload,
): Promise<WorkloadStep> {
  const parameters = new Parameters(backend, config, { trainable: true });
  parameters.initialise(seed);
  const { sequenceLength, batchSize, loss, optimizer } = train;
  const microBatchSize = train.microBatchSize ?? batchSize;
  const decoder = new Decoder(backend, parameters);
  const step = new TrainStep(backend, decoder, { sequenceLength, microBatchSize, loss, optimizer });
  const labels = ids.map((_, index) => ((index + 1) % sequenceLength === 0 ? -100 : (ids[index + 1] as number)));
  return () => step.run({ ids, labels }, optimizer.lr).loss;
}
