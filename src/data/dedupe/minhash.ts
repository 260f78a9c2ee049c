/**
 * MinHash signatures by fast similarity sketching (Dahlgaard, Knudsen and Thorup, FOCS 2017, arXiv 1704.04370): one pass
 * hashes every shingle into one of 128 bins, which keep their least value; while bins are empty, further passes hash anew.
 * Two sets agree in a bin with probability equal to their Jaccard similarity. A long text costs one pass, as one-permutation
 * hashing does, and a short one spreads as well as with 128 permutations, which copying from full bins would not.
 */
import { mix32 } from "../../util/mix32.ts";

/** Bins of a signature, of which a record keeps one byte each. */
export const SIGNATURE_BYTES = 128;

const EMPTY = 0xffff_ffff;
const BIN_BITS = 7;
const VALUE_MASK = 0xff_ffff;
/** From so many shingles on, repeated ones are sorted out before a second pass, which bounds the work of a hostile text. */
const SORT_FROM = 1024;

/** The distinct values, in rising order. */
function distinct(hashes: Uint32Array): Uint32Array {
  const sorted = hashes.slice().sort();
  let count = 0;
  for (let index = 0; index < sorted.length; index++) {
    if (index === 0 || sorted[index] !== sorted[index - 1]) sorted[count++] = sorted[index] as number;
  }
  return sorted.subarray(0, count);
}

/** Hashes all shingles once more. A bin that an earlier round filled has a lesser value and keeps it. */
function fillRound(hashes: Uint32Array, round: number, values: Uint32Array): void {
  const salt = mix32(round);
  const top = round << 24;
  // Past as many rounds as there are bins, round by round one of them is filled for certain.
  const forced = round < SIGNATURE_BYTES ? -1 : round - SIGNATURE_BYTES;
  for (let index = 0; index < hashes.length; index++) {
    const mixed = mix32((hashes[index] as number) ^ salt);
    const bin = forced < 0 ? mixed >>> (32 - BIN_BITS) : forced;
    const value = (top | (mixed & VALUE_MASK)) >>> 0;
    if (value < (values[bin] as number)) values[bin] = value;
  }
}

/**
 * Fills the bins of one document.
 * @param hashes of its shingles, at least one.
 * @param values [128], overwritten: round and least hash of each bin.
 */
export function minhash(hashes: Uint32Array, values: Uint32Array): void {
  values.fill(EMPTY);
  let rest = hashes;
  for (let round = 0; round === 0 || values.includes(EMPTY); round++) {
    if (round === 1 && rest.length > SORT_FROM) rest = distinct(rest);
    fillRound(rest, round, values);
  }
}

/** One byte of each bin: the lowest of the value, which is as even as the hash itself. */
export function signatureOf(values: Uint32Array, signature: Uint8Array): void {
  for (let bin = 0; bin < SIGNATURE_BYTES; bin++) signature[bin] = values[bin] as number;
}

/** Bins in which two signatures have to agree, so that their estimated Jaccard similarity is at least `threshold`. */
export function agreeingBins(threshold: number): number {
  // Bytes of different values agree once in 256 times, which the estimate takes off (b-bit minwise hashing, Li and Koenig,
  // arXiv 0910.3349).
  return Math.ceil(SIGNATURE_BYTES * (threshold + (1 - threshold) / 256));
}

/** Whether the signature that starts at `start` of `signatures` agrees with another in at least `least` bins. */
export function agree(signatures: Uint8Array, start: number, other: Uint8Array, least: number): boolean {
  let misses = SIGNATURE_BYTES - least;
  for (let bin = 0; bin < SIGNATURE_BYTES; bin++) {
    if (signatures[start + bin] !== other[bin] && --misses < 0) return false;
  }
  return true;
}
