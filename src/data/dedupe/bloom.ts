/**
 * Bloom filters (Bloom 1970), one for each bucket of keys, so that what one of them says depends neither on the other
 * buckets nor on how buckets are put into partitions.
 */
import { mix32 } from "../../util/mix32.ts";

/** Bits that a key sets, for an error rate: the nearest to the optimum, log2(1 / rate). */
export function probesFor(errorRate: number): number {
  return Math.max(1, Math.round(-Math.log2(errorRate)));
}

/**
 * Bits of a filter that, with `keys` different keys, takes a new one for known with probability `errorRate`: by
 * (1 - e^(-k n / m))^k for n keys, m bits and k probes. 19.2 bits a key at 1e-4.
 */
export function filterBits(keys: number, errorRate: number): number {
  const probes = probesFor(errorRate);
  return Math.ceil((-probes * keys) / Math.log1p(-(errorRate ** (1 / probes))));
}

export class BucketFilters {
  readonly #bits: Uint32Array;
  /** First word of each bucket's bits, and how many bits it has. */
  readonly #starts: Float64Array;
  readonly #sizes: Float64Array;
  readonly #probes: number;

  /** @param keys how many keys each bucket has at most. */
  constructor(keys: ArrayLike<number>, errorRate: number) {
    this.#probes = probesFor(errorRate);
    this.#starts = new Float64Array(keys.length);
    this.#sizes = new Float64Array(keys.length);
    let words = 0;
    for (let bucket = 0; bucket < keys.length; bucket++) {
      const bits = filterBits(keys[bucket] as number, errorRate);
      this.#starts[bucket] = words;
      this.#sizes[bucket] = bits;
      words += Math.ceil(bits / 32);
    }
    this.#bits = new Uint32Array(words);
  }

  /** Whether a key of 64 bits was added to its bucket before, or seems so; adds it. */
  add(bucket: number, high: number, low: number): boolean {
    const start = this.#starts[bucket] as number;
    const share = (this.#sizes[bucket] as number) / 2 ** 32;
    let known = true;
    for (let probe = 0; probe < this.#probes; probe++) {
      // All 64 bits go into each probe: places from two reduced hashes would repeat too often in small filters.
      const bit = Math.floor(mix32(high + Math.imul(low, probe + 1)) * share);
      const word = start + Math.floor(bit / 32);
      const mask = 1 << (bit & 31);
      const held = this.#bits[word] as number;
      if ((held & mask) !== 0) continue;
      known = false;
      this.#bits[word] = held | mask;
    }
    return known;
  }
}
