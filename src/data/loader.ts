/**
 * Batches for training from token files: OLMo's chunks of one sequence each, shuffled by epoch inside each source, sources
 * mixed by weight. Everything follows from the seed and the number of sequences taken, so a cursor is a few numbers.
 */
import { DataError } from "../errors.ts";
import { createRandom, shuffledOrder } from "../util/random.ts";
import { documentStarts, NO_LABEL, type TokenArray } from "./tokenFile.ts";

/** Training tokens of one source. */
export interface TokenSource {
  readonly name: string;
  /** Share of the sequences, relative to the other sources. */
  readonly weight: number;
  /** Chunks do not cross from one file into the next; what is left of a file is dropped. */
  readonly files: readonly TokenArray[];
}

export interface LoaderOptions {
  readonly sources: readonly TokenSource[];
  readonly sequenceLength: number;
  /** Sequences in a batch, where `next` does not say otherwise. */
  readonly batchSize: number;
  readonly seed: number;
  readonly eosTokenId: number;
}

/** B sequences of S tokens. */
export interface Batch {
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** [B * S]. */
  readonly ids: Int32Array;
  /** [B * S]: the next token of the sequence, NO_LABEL at its last place. */
  readonly labels: Int32Array;
  /** [B * S]: where in the sequence the current document starts. */
  readonly kvStart: Int32Array;
  /** [B]: index of each sequence's source. */
  readonly sources: Int32Array;
  /** Times each source has been gone through, this batch included, as a fraction. */
  readonly epochs: readonly number[];
}

/** A place in the data, as plain JSON. */
export interface LoaderCursor {
  readonly sequenceLength: number;
  readonly sources: readonly CursorSource[];
}

export interface CursorSource {
  readonly name: string;
  /** Sequences in the source, to notice other data. */
  readonly chunks: number;
  /** Sequences taken since the start of the run, over all epochs. */
  readonly taken: number;
}

/** The chunks of one source in the order of the current epoch. */
class SourceChunks {
  readonly name: string;
  readonly count: number;
  readonly #source: TokenSource;
  readonly #seed: number;
  readonly #sequenceLength: number;
  #epoch = -1;
  #order: Int32Array = new Int32Array(0);

  constructor(source: TokenSource, sequenceLength: number, seed: number) {
    this.name = source.name;
    this.#source = source;
    this.#seed = seed;
    this.#sequenceLength = sequenceLength;
    this.count = source.files.reduce((sum, file) => sum + Math.floor(file.length / sequenceLength), 0);
    if (this.count === 0) {
      const tokens = source.files.reduce((sum, file) => sum + file.length, 0);
      throw new DataError(`source "${source.name}": ${tokens} training tokens, one sequence needs ${sequenceLength}`, {
        hint: "add text or lower train.sequenceLength",
      });
    }
  }

  /** The sequence that comes after `taken` others. */
  at(taken: number): TokenArray {
    const epoch = Math.floor(taken / this.count);
    if (epoch !== this.#epoch) {
      this.#order = shuffledOrder(this.count, createRandom(this.#seed + epoch, `epoch/${this.name}`));
      this.#epoch = epoch;
    }
    return this.#chunk(this.#order[taken % this.count] as number);
  }

  #chunk(index: number): TokenArray {
    let rest = index;
    for (const file of this.#source.files) {
      const chunks = Math.floor(file.length / this.#sequenceLength);
      if (rest < chunks) return file.subarray(rest * this.#sequenceLength, (rest + 1) * this.#sequenceLength);
      rest -= chunks;
    }
    throw new Error(`internal: chunk ${index} of ${this.count} of source ${this.name}`);
  }
}

/** Endless batches; see the head of this file. */
export class TokenLoader {
  readonly #options: LoaderOptions;
  readonly #chunks: SourceChunks[];
  readonly #shares: number[];
  #taken: number[];

  /** @throws DataError for a source with fewer tokens than one sequence. */
  constructor(options: LoaderOptions) {
    this.#options = options;
    const { sources, sequenceLength, seed } = options;
    if (sources.length === 0) throw new DataError("loader: no sources");
    this.#chunks = sources.map((source) => new SourceChunks(source, sequenceLength, seed));
    const total = sources.reduce((sum, { weight }) => sum + weight, 0);
    this.#shares = sources.map(({ weight }) => weight / total);
    this.#taken = sources.map(() => 0);
  }

  /** The next batch. The order of the sequences does not depend on how they are cut into batches. */
  next(batchSize: number = this.#options.batchSize): Batch {
    const { sequenceLength, eosTokenId } = this.#options;
    const ids = new Int32Array(batchSize * sequenceLength);
    const labels = new Int32Array(ids.length).fill(NO_LABEL);
    const sources = new Int32Array(batchSize);
    for (let row = 0; row < batchSize; row++) {
      const source = this.#mostBehind();
      sources[row] = source;
      const chunk = this.#chunks[source]!.at(this.#taken[source]!++);
      ids.set(chunk, row * sequenceLength);
      labels.set(chunk.subarray(1), row * sequenceLength);
    }
    return {
      batchSize,
      sequenceLength,
      ids,
      labels,
      kvStart: documentStarts(ids, sequenceLength, eosTokenId),
      sources,
      epochs: this.#chunks.map(({ count }, index) => this.#taken[index]! / count),
    };
  }

  /** Where the next batch starts. */
  cursor(): LoaderCursor {
    return {
      sequenceLength: this.#options.sequenceLength,
      sources: this.#chunks.map(({ name, count }, index) => ({ name, chunks: count, taken: this.#taken[index]! })),
    };
  }

  /**
   * Goes on where a cursor was taken: the next batches are those that followed it.
   * @throws DataError if the cursor is of other data or another sequence length.
   */
  seek(cursor: LoaderCursor): void {
    const show = ({ sequenceLength, sources }: LoaderCursor) =>
      `sequences of ${sequenceLength} from ${sources.map(({ name, chunks }) => `${name} (${chunks})`).join(", ")}`;
    const own = show(this.cursor());
    if (show(cursor) !== own) {
      throw new DataError(`loader: the cursor is of ${show(cursor)}, the data has ${own}`, {
        hint: "resume with the recipe and data the run was started with",
      });
    }
    for (const { name, taken } of cursor.sources) {
      if (!Number.isSafeInteger(taken) || taken < 0) {
        throw new DataError(`loader: the cursor has taken ${taken} of ${name}, expected a whole number from 0`);
      }
    }
    this.#taken = cursor.sources.map(({ taken }) => taken);
  }

  /** The source furthest behind its share after one more sequence; the first of equals. */
  #mostBehind(): number {
    const next = this.#taken.reduce((sum, taken) => sum + taken, 1);
    let best = 0;
    let largest = Number.NEGATIVE_INFINITY;
    for (const [index, share] of this.#shares.entries()) {
      const deficit = share * next - this.#taken[index]!;
      if (deficit > largest) {
        largest = deficit;
        best = index;
      }
    }
    return best;
  }
}
