/** The order in which OLMo's trainer goes through instances (olmo/data/iterable_dataset.py), for comparing runs with it. */
import { numpyShuffledOrder } from "../util/numpyRandom.ts";

export interface OlmoOrderOptions {
  readonly instances: number;
  readonly seed: number;
  /** The first is 0. */
  readonly epoch: number;
  /** Processes that share an epoch. */
  readonly worldSize: number;
  /** Leave out what does not divide among them; else the first instances are taken once more. */
  readonly dropLast: boolean;
}

/** Instances of each process, in order. */
export function olmoEpochOrder(options: OlmoOrderOptions): Uint32Array[] {
  const { instances, seed, epoch, worldSize, dropLast } = options;
  const shuffled = numpyShuffledOrder(instances, seed + epoch);
  const share = dropLast ? Math.floor(instances / worldSize) : Math.ceil(instances / worldSize);
  return Array.from({ length: worldSize }, (_, rank) =>
    Uint32Array.from({ length: share }, (_, index) => shuffled[(index * worldSize + rank) % instances] as number),
  );
}
