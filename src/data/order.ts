/**
 * Which sequence of which source comes next. An order follows from its seed and from how many sequences of each source have
 * been taken, so any place in it is a few numbers, however the sequences are cut into batches.
 */
import { createRandom, shuffledOrder } from "../util/random.ts";
import { olmoEpochOrder } from "./olmoOrder.ts";

/** A source as an order sees it. */
export interface SourceSize {
  readonly name: string;
  /** Sequences in it. */
  readonly chunks: number;
  /** Share of the sequences, relative to the other sources ("mixed"). */
  readonly weight: number;
  /** Times it is gone through in one pass over all sources ("olmo"). */
  readonly repeat: number;
}

export interface Place {
  /** Index of the source. */
  readonly source: number;
  /** Index of the sequence in it. */
  readonly chunk: number;
}

export interface SequenceOrder {
  /** The sequence that comes after so many of each source. */
  at(taken: readonly number[]): Place;
}

/** Each source is shuffled by itself, anew each time it has been gone through; all are taken from by weight, without end. */
export class MixedOrder implements SequenceOrder {
  readonly #sources: readonly SourceSize[];
  readonly #shares: readonly number[];
  readonly #seed: number;
  readonly #epochs: { epoch: number; order: Int32Array }[];

  constructor(sources: readonly SourceSize[], seed: number) {
    const total = sources.reduce((sum, { weight }) => sum + weight, 0);
    this.#sources = sources;
    this.#shares = sources.map(({ weight }) => weight / total);
    this.#seed = seed;
    this.#epochs = sources.map(() => ({ epoch: -1, order: new Int32Array(0) }));
  }

  at(taken: readonly number[]): Place {
    const source = this.#mostBehind(taken);
    const { chunks, name } = this.#sources[source]!;
    const own = this.#epochs[source]!;
    const epoch = Math.floor(taken[source]! / chunks);
    if (epoch !== own.epoch) {
      own.order = shuffledOrder(chunks, createRandom(this.#seed + epoch, `epoch/${name}`));
      own.epoch = epoch;
    }
    return { source, chunk: own.order[taken[source]! % chunks]! };
  }

  /** The source furthest behind its share after one more sequence; the first of equals. */
  #mostBehind(taken: readonly number[]): number {
    const next = taken.reduce((sum, count) => sum + count, 1);
    let best = 0;
    let largest = Number.NEGATIVE_INFINITY;
    for (const [index, share] of this.#shares.entries()) {
      const deficit = share * next - taken[index]!;
      if (deficit > largest) {
        largest = deficit;
        best = index;
      }
    }
    return best;
  }
}

/**
 * One list of all sequences of all sources, shuffled by numpy's generator for each pass, as OLMo's trainer does on one
 * process. A source that is repeated stands in the list as often; of what is left of a fraction a seeded draw does.
 */
export class OlmoOrder implements SequenceOrder {
  readonly #parts: {
    readonly start: number;
    readonly chunks: number;
    readonly whole: number;
    readonly drawn: Int32Array;
  }[];
  readonly #seed: number;
  readonly #instances: number;
  #epoch = -1;
  #order: Uint32Array = new Uint32Array(0);

  constructor(sources: readonly SourceSize[], seed: number) {
    let start = 0;
    this.#parts = sources.map(({ name, chunks, repeat }) => {
      const whole = Math.floor(repeat) * chunks;
      const rest = Math.round((repeat - Math.floor(repeat)) * chunks);
      const part = {
        start,
        chunks,
        whole,
        drawn: shuffledOrder(chunks, createRandom(seed, `repeat/${name}`)).slice(0, rest),
      };
      start += whole + rest;
      return part;
    });
    this.#instances = start;
    this.#seed = seed;
  }

  at(taken: readonly number[]): Place {
    const done = taken.reduce((sum, count) => sum + count, 0);
    const epoch = Math.floor(done / this.#instances);
    if (epoch !== this.#epoch) {
      const options = { instances: this.#instances, seed: this.#seed, epoch, worldSize: 1, dropLast: true };
      this.#order = olmoEpochOrder(options)[0]!;
      this.#epoch = epoch;
    }
    const instance = this.#order[done % this.#instances]!;
    const source = this.#parts.findLastIndex(({ start }) => start <= instance);
    const { start, chunks, whole, drawn } = this.#parts[source]!;
    const index = instance - start;
    return { source, chunk: index < whole ? index % chunks : drawn[index - whole]! };
  }
}
