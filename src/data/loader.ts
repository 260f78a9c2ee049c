/**
 * Batches for training from token files: OLMo's chunks of one sequence each, in a seeded order over all sources. Everything
 * follows from the seed and the number of sequences taken, so a cursor is a few numbers, whatever the size of a batch.
 */
import { DataError } from "../errors.ts";
import { MixedOrder, OlmoOrder, type SequenceOrder } from "./order.ts";
import { isRepetitive, type RepetitionRule } from "./repetition.ts";
import { documentStarts, NO_LABEL, type TokenArray, type Tokens } from "./tokenFile.ts";

/** Training tokens of one source. */
export interface TokenSource {
  readonly name: string;
  /** Share of the sequences, relative to the other sources; for the mixed order. */
  readonly weight: number;
  /** Times the source is gone through in one pass over all; for OLMo's order. Left out: once. */
  readonly repeat?: number;
  /** Chunks do not cross from one file into the next; what is left of a file is dropped. */
  readonly files: readonly Tokens[];
}

export interface LoaderOptions {
  readonly sources: readonly TokenSource[];
  readonly sequenceLength: number;
  /** Sequences in a batch, where `next` does not say otherwise. */
  readonly batchSize: number;
  readonly seed: number;
  readonly eosTokenId: number;
  /** How the sources are gone through; see `order` of a stage in a recipe. Left out: mixed. */
  readonly order?: "mixed" | "olmo";
  /** Sequences with such repetitions lose their labels, as in the paper's training (OLMo's instance filter). */
  readonly instanceFilter?: RepetitionRule | undefined;
}

/** B sequences of S tokens. */
export interface Batch {
  readonly batchSize: number;
  readonly sequenceLength: number;
  /** [B * S]. */
  readonly ids: Int32Array;
  /** [B * S]: the next token of the sequence, NO_LABEL at its last place and in all places of a masked sequence. */
  readonly labels: Int32Array;
  /** [B * S]: where in the sequence the current document starts. */
  readonly kvStart: Int32Array;
  /** [B]: index of each sequence's source. */
  readonly sources: Int32Array;
  /** Sequences that the instance filter has masked: they run, but give no cross-entropy. */
  readonly masked: number;
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

/** The chunks of one source, by number. */
class SourceChunks {
  readonly name: string;
  readonly count: number;
  readonly #files: readonly { readonly tokens: Tokens; readonly first: number }[];
  readonly #sequenceLength: number;

  constructor({ name, files }: TokenSource, sequenceLength: number) {
    this.name = name;
    this.#sequenceLength = sequenceLength;
    let first = 0;
    this.#files = files.map((tokens) => {
      const file = { tokens, first };
      first += Math.floor(tokens.length / sequenceLength);
      return file;
    });
    this.count = first;
    if (this.count > 0) return;
    const tokens = files.reduce((sum, file) => sum + file.length, 0);
    throw new DataError(`source "${name}": ${tokens} training tokens, one sequence needs ${sequenceLength}`, {
      hint: "add text or lower train.sequenceLength",
    });
  }

  at(index: number): TokenArray {
    // The last file that starts at or before it: one without a chunk starts where the next does.
    let [low, high] = [0, this.#files.length - 1];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (this.#files[middle]!.first <= index) low = middle;
      else high = middle - 1;
    }
    const { tokens, first } = this.#files[low]!;
    const start = (index - first) * this.#sequenceLength;
    return tokens.subarray(start, start + this.#sequenceLength);
  }
}

/** Endless batches; see the head of this file. */
export class TokenLoader {
  readonly #options: LoaderOptions;
  readonly #chunks: SourceChunks[];
  readonly #order: SequenceOrder;
  #taken: number[];

  /** @throws DataError for a source with fewer tokens than one sequence. */
  constructor(options: LoaderOptions) {
    this.#options = options;
    const { sources, sequenceLength, seed } = options;
    if (sources.length === 0) throw new DataError("loader: no sources");
    this.#chunks = sources.map((source) => new SourceChunks(source, sequenceLength));
    const sizes = sources.map(({ name, weight, repeat = 1 }, index) => {
      return { name, weight, repeat, chunks: this.#chunks[index]!.count };
    });
    this.#order = options.order === "olmo" ? new OlmoOrder(sizes, seed) : new MixedOrder(sizes, seed);
    this.#taken = sources.map(() => 0);
  }

  /** The next batch. The order of the sequences does not depend on how they are cut into batches. */
  next(batchSize: number = this.#options.batchSize): Batch {
    const { sequenceLength, eosTokenId, instanceFilter } = this.#options;
    const ids = new Int32Array(batchSize * sequenceLength);
    const labels = new Int32Array(ids.length).fill(NO_LABEL);
    const sources = new Int32Array(batchSize);
    let masked = 0;
    for (let row = 0; row < batchSize; row++) {
      const { source, chunk } = this.#order.at(this.#taken);
      this.#taken[source]!++;
      sources[row] = source;
      const tokens = this.#chunks[source]!.at(chunk);
      ids.set(tokens, row * sequenceLength);
      if (instanceFilter !== undefined && isRepetitive(tokens, instanceFilter)) masked++;
      else labels.set(tokens.subarray(1), row * sequenceLength);
    }
    return {
      batchSize,
      sequenceLength,
      ids,
      labels,
      kvStart: documentStarts(ids, sequenceLength, eosTokenId),
      sources,
      masked,
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
}
