/**
 * Tokens of some sequences of a trace, kept with their ids and experts, in memory that does not grow: for intervals of what
 * can be told of a sequence only when all are counted.
 */
import type { TraceChunk } from "../formats/trace.ts";
import { columnOf } from "./analysis.ts";

/** Tokens of one sequence, in pieces as they came. */
export interface SampledTokens {
  readonly ids: Int32Array;
  /** [L, T, k]. */
  readonly experts: Int8Array | Int16Array;
}

export interface SequenceSample {
  /** In order of their numbers. */
  readonly sequences: readonly (readonly SampledTokens[])[];
  /** Whether they are all that there are. */
  readonly complete: boolean;
}

export interface SampleShape {
  /** Places of the layers in a chunk's arrays. */
  readonly places: readonly number[];
  readonly slots: number;
  readonly k: number;
  readonly numExperts: number;
  /** Default 256 sequences: with as many, intervals are as good as with all. */
  readonly mostSequences?: number;
  /** Default 16 MiB: 64 sequences of 2,048 tokens, 16 layers and 8 of up to 127 experts. */
  readonly mostBytes?: number;
}

interface Kept {
  readonly order: number;
  bytes: number;
  readonly pieces: SampledTokens[];
}

/**
 * Numbers in an order that looks random, no two alike (the finaliser of MurmurHash3): the sequences with the least are kept.
 * Which these are depends on the trace alone, not on the order in which its chunks come or on where they are cut.
 */
function scatter(sequence: number): number {
  let value = sequence ^ 0x9e3779b9;
  value = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  value = Math.imul(value ^ (value >>> 13), 0xc2b2ae35);
  return (value ^ (value >>> 16)) >>> 0;
}

export class SequenceSampler {
  readonly #shape: Required<SampleShape>;
  readonly #kept = new Map<number, Kept>();
  #bytes = 0;
  /** The least number of a sequence that there was no room for. */
  #limit = Number.POSITIVE_INFINITY;

  constructor({ mostSequences = 256, mostBytes = 2 ** 24, ...shape }: SampleShape) {
    this.#shape = { ...shape, mostSequences, mostBytes };
  }

  /** Adds ids [T] of a sequence, and the experts of as many tokens of a chunk from `first` on. */
  add(sequence: number, ids: Int32Array, chunk: TraceChunk, first: number): void {
    if (ids.length === 0 || scatter(sequence) >= this.#limit) return;
    const { places, slots, k } = this.#shape;
    const source = columnOf(chunk, "experts");
    const experts = this.#expertArray(places.length * ids.length * k);
    for (const [index, place] of places.entries()) {
      const from = (place * chunk.tokens + first) * slots;
      const to = index * ids.length * k;
      if (slots === k) experts.set(source.subarray(from, from + ids.length * k), to);
      else {
        for (let token = 0; token < ids.length; token++) {
          for (let slot = 0; slot < k; slot++) experts[to + token * k + slot] = source[from + token * slots + slot]!;
        }
      }
    }
    this.#put(sequence, { ids: ids.slice(), experts });
  }

  /** Adds one token with its experts [L, k]. */
  addToken(sequence: number, id: number, experts: Int16Array): void {
    if (scatter(sequence) >= this.#limit) return;
    const own = this.#expertArray(experts.length);
    own.set(experts);
    this.#put(sequence, { ids: Int32Array.of(id), experts: own });
  }

  result(): SequenceSample {
    const kept = [...this.#kept].sort(([a], [b]) => a - b);
    return { sequences: kept.map(([, { pieces }]) => pieces), complete: this.#limit === Number.POSITIVE_INFINITY };
  }

  #expertArray(length: number): Int8Array | Int16Array {
    return this.#shape.numExperts <= 2 ** 7 ? new Int8Array(length) : new Int16Array(length);
  }

  #put(sequence: number, piece: SampledTokens): void {
    let kept = this.#kept.get(sequence);
    if (kept === undefined) {
      kept = { order: scatter(sequence), bytes: 0, pieces: [] };
      this.#kept.set(sequence, kept);
    }
    const bytes = piece.ids.byteLength + piece.experts.byteLength;
    kept.pieces.push(piece);
    kept.bytes += bytes;
    this.#bytes += bytes;
    const { mostBytes, mostSequences } = this.#shape;
    while (this.#bytes > mostBytes || this.#kept.size > mostSequences) this.#drop();
  }

  /** Drops the sequence of the largest number; those of larger ones are not taken any more. */
  #drop(): void {
    const [sequence, { order, bytes }] = [...this.#kept].reduce((a, b) => (b[1].order > a[1].order ? b : a));
    this.#kept.delete(sequence);
    this.#bytes -= bytes;
    this.#limit = order;
  }
}
