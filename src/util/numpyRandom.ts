/**
 * The part of numpy's random numbers that OLMo's data order needs: `Generator(PCG64(seed)).shuffle`. Sources: numpy's
 * SeedSequence and PCG64 (XSL-RR output of a 128-bit congruential generator: O'Neill, "PCG", HMC-CS-2014-0905).
 */

const MASK_64 = (1n << 64n) - 1n;
const MASK_128 = (1n << 128n) - 1n;
const MULTIPLIER = 0x2360ed051fc65da44385df649fccf645n;
const POOL_WORDS = 4;

/** numpy's SeedSequence(seed).generate_state(words): 32-bit words that differ in all bits for neighbouring seeds. */
function seedWords(seed: number, words: number): Uint32Array {
  let hashed = 0x43b0d7e5;
  const hash = (value: number) => {
    const mixed = value ^ hashed;
    hashed = Math.imul(hashed, 0x931e8875);
    const product = Math.imul(mixed, hashed);
    return product ^ (product >>> 16);
  };
  const mix = (x: number, y: number) => {
    const mixed = Math.imul(x, 0xca01f9dd) - Math.imul(y, 0x4973f715);
    return mixed ^ (mixed >>> 16);
  };
  const entropy = [seed >>> 0, Math.floor(seed / 2 ** 32)];
  const pool = Uint32Array.from({ length: POOL_WORDS }, (_, index) => hash(entropy[index] ?? 0));
  for (let source = 0; source < POOL_WORDS; source++) {
    for (let target = 0; target < POOL_WORDS; target++) {
      if (source !== target) pool[target] = mix(pool[target] as number, hash(pool[source] as number));
    }
  }
  let state = 0x8b51f9dd;
  return Uint32Array.from({ length: words }, (_, index) => {
    const mixed = (pool[index % POOL_WORDS] as number) ^ state;
    state = Math.imul(state, 0x58f38ded);
    const product = Math.imul(mixed, state);
    return product ^ (product >>> 16);
  });
}

/** numpy's PCG64 as a stream of 32-bit numbers, each 64-bit one giving its lower half first. */
class Pcg64 {
  #state: bigint;
  readonly #increment: bigint;
  #waiting: number | undefined;

  constructor(seed: number) {
    const words = seedWords(seed, 8);
    // Pairs of words are 64-bit numbers, lower half first; pairs of those 128-bit ones, upper half first.
    const wide = (at: number) => (BigInt(words[at + 1] as number) << 32n) | BigInt(words[at] as number);
    const start = (wide(0) << 64n) | wide(2);
    this.#increment = ((((wide(4) << 64n) | wide(6)) << 1n) | 1n) & MASK_128;
    this.#state = this.#after(this.#increment + start);
  }

  next(): number {
    if (this.#waiting !== undefined) {
      const value = this.#waiting;
      this.#waiting = undefined;
      return value;
    }
    this.#state = this.#after(this.#state);
    const folded = (this.#state >> 64n) ^ (this.#state & MASK_64);
    const turn = this.#state >> 122n;
    const value = ((folded >> turn) | (folded << (64n - turn))) & MASK_64;
    this.#waiting = Number(value >> 32n);
    return Number(value & 0xffffffffn);
  }

  /** A whole number from 0 to `most`, which is below 2^32: masked, and drawn again where it is above. */
  upTo(most: number): number {
    if (most === 0) return 0;
    const mask = 0xffffffff >>> Math.clz32(most);
    for (;;) {
      const value = (this.next() & mask) >>> 0;
      if (value <= most) return value;
    }
  }

  #after(state: bigint): bigint {
    return (state * MULTIPLIER + this.#increment) & MASK_128;
  }
}

/**
 * The numbers 0 .. count - 1 as `numpy.random.Generator(numpy.random.PCG64(seed)).shuffle` leaves them; about a microsecond
 * for each.
 * @param seed from 0 to 2^53 - 1; @param count below 2^32.
 */
export function numpyShuffledOrder(count: number, seed: number): Uint32Array {
  const random = new Pcg64(seed);
  const order = Uint32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = random.upTo(last);
    const moved = order[last] as number;
    order[last] = order[other] as number;
    order[other] = moved;
  }
  return order;
}
