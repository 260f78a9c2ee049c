/** Seeded randomness of the data room. */
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** FNV-1a over UTF-16 units, 32 bits. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  return value;
}

/**
 * A random order of 0 .. count-1 (Fisher-Yates).
 * @param seed with `purpose` decides the order; orders of different purposes are unrelated.
 */
export function shuffledOrder(count: number, seed: number, purpose: string): Int32Array {
  const generator = xoroshiro128plus(hash(`${purpose}/${seed}`));
  const order = Int32Array.from({ length: count }, (_, index) => index);
  for (let last = count - 1; last > 0; last--) {
    const other = uniformInt(generator, 0, last);
    const kept = order[last] as number;
    order[last] = order[other] as number;
    order[other] = kept;
  }
  return order;
}
