/** The one place where the training benchmark meets the trainer. */
import type { Backend } from "../src/backend/backend.ts";
import type { ModelConfig } from "../src/config/model.ts";
import type { TrainRecipe } from "../src/config/recipe.ts";
import { UnsupportedError } from "../src/errors.ts";

export interface TrainWorkload {
  readonly config: ModelConfig;
  readonly train: TrainRecipe;
  readonly seed: number;
  /** [batchSize, sequenceLength], the batch of every step; labels are the same ids, shifted within the loss. */
  readonly ids: Int32Array;
}

/** Does one whole step (forward, backward, clipping, AdamW) on the same batch and returns its loss. */
export type TrainStep = () => number | Promise<number>;

/** Builds the model and the optimiser on a backend. */
export async function ourTrainStep(backend: Backend, { config }: TrainWorkload): Promise<TrainStep> {
  throw new UnsupportedError(
    `bench train: no trainer for ${config.numHiddenLayers} layers on the ${backend.name} backend`,
  );
}
