/** Hashes of 32 bits. */
import { mix32 } from "../../util/mix32.ts";

/** The mixed word with a sign, as an Int32Array gives it back. */
export function mix(value: number): number {
  return mix32(value) | 0;
}

/** The upper bits of a hash that all its bits have a part in, as many as `shift` leaves of 32 (Fibonacci hashing). */
export function spread(hash: number, shift: number): number {
  return Math.imul(hash, 0x9e3779b1) >>> shift;
}

/** Where FNV-1a starts. */
export const HASH_SEED = 0x811c9dc5 | 0;

/** One step of FNV-1a. The prime stands here as a number, because a constant of a module is looked up at every step. */
export function step(hash: number, value: number): number {
  return Math.imul(hash ^ value, 0x01000193);
}

/** FNV-1a over UTF-16 units, from a seed. */
export function hashText(text: string, seed: number): number {
  let hash = seed | 0;
  for (let index = 0; index < text.length; index++) hash = step(hash, text.charCodeAt(index));
  return mix(hash);
}

/**
 * Start of the hashes in tables that compare their keys. It differs from process to process, so that no text can be
 * written whose words all fall on one place of a table; what the tables say does not depend on it.
 */
export const TABLE_SEED = crypto.getRandomValues(new Int32Array(1))[0] as number;

/**
 * What both numbers of a pair are multiplied by in such a table, odd; the upper bits of the sum are the place
 * (Dietzfelbinger et al. 1997, A reliable randomized algorithm for the closest-pair problem).
 */
export const PAIR_FACTORS = crypto.getRandomValues(new Int32Array(2)).map((factor) => factor | 1);

/** Places of a table for so many keys, at most half of them taken: a power of two. */
export function tableSize(keys: number): number {
  return 1 << (33 - Math.clz32(Math.max(4, keys)));
}
