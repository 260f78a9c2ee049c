/** Seeded randomness. Streams of one seed but different purposes are unrelated, so adding one never shifts another. */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";

export type { RandomGenerator };

/** FNV-1a over UTF-16 units, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  return value;
}

/** @param purpose what the numbers are for, such as "init" or "order/novel/epoch 2". */
export function createRandom(seed: number, purpose: string): RandomGenerator {
  return xoroshiro128plus(hash(`${purpose}/${seed}`));
}

/** A number in [0, 1). */
export function uniform(random: RandomGenerator): number {
  return uniformFloat64(random);
}

/**
 * Fills with normal(0, deviation) numbers, drawn again where they are beyond `cutoff` deviations (Marsaglia's polar
 * method, both numbers of a pair used).
 */
export function fillNormal(target: Float32Array, random: RandomGenerator, deviation: number, cutoff = Infinity): void {
  let index = 0;
  const put = (value: number) => {
    if (Math.abs(value) <= cutoff && index < target.length) target[index++] = value * deviation;
  };
  while (index < target.length) {
    const x = 2 * uniformFloat64(random) - 1;
    const y = 2 * uniformFloat64(random) - 1;
    const square = x * x + y * y;
    if (square >= 1 || square === 0) continue;
    const factor = Math.sqrt((-2 * Math.log(square)) / square);
    put(x * factor);
    put(y * factor);
  }
}

/** A random order of 0 .. count-1 (Fisher-Yates). */
export function shuffledOrder(count: number, random: RandomGenerator): Int32Array {
  const order = Int32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = uniformInt(random, 0, last);
    const kept = order[last] as number;
    order[last] = order[other] as number;
    order[other] = kept;
  }
  return order;
}
