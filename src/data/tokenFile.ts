/**
 * Token files as `dolma tokens` writes and OLMo's trainer reads them: ids one after another as little-endian uint16 (uint32
 * for a larger vocabulary) without a header, each document closed by the end-of-text token.
 */
import { DataError } from "../errors.ts";

export type TokenArray = Uint16Array | Uint32Array;
export type TokenDType = "uint16" | "uint32";

/** Ids in memory or on disk; a typed array is one. */
export interface Tokens {
  readonly length: number;
  /** Ids from `start` to `end`, exclusive. */
  subarray(start: number, end: number): TokenArray;
}

/** Label of a position without a target. */
export const NO_LABEL = -100;

/** The narrower type that holds every id. */
export function tokenDType(vocabSize: number): TokenDType {
  return vocabSize <= 2 ** 16 ? "uint16" : "uint32";
}

/** Bytes of one id. */
export function tokenBytesOf(dtype: TokenDType): number {
  return dtype === "uint16" ? 2 : 4;
}

/** Room for so many ids. */
export function newTokenArray(dtype: TokenDType, length: number): TokenArray {
  return tokenArrayOver(dtype, new ArrayBuffer(length * tokenBytesOf(dtype)), 0, length);
}

/** An array of ids in a part of a buffer. */
export function tokenArrayOver(dtype: TokenDType, buffer: ArrayBuffer, byteOffset: number, length: number): TokenArray {
  const IdArray = dtype === "uint16" ? Uint16Array : Uint32Array;
  return new IdArray(buffer, byteOffset, length);
}

/**
 * Ids in a token file of so many bytes.
 * @param place the file, for messages.
 * @throws DataError for a length that is not a whole number of ids.
 */
export function tokenCount(bytes: number, dtype: TokenDType, place: string): number {
  const width = tokenBytesOf(dtype);
  if (bytes % width === 0) return bytes / width;
  throw new DataError(`${place}: ${bytes} bytes, expected a multiple of ${width} (${dtype})`, {
    hint: "the file is cut off, or was written with another integer type",
  });
}

/**
 * Checks that every id has a row in the vocabulary.
 * @param start of `tokens` in the file, for the message.
 * @throws DataError for the first one that has none.
 */
export function checkIds(tokens: TokenArray, vocabSize: number, place: string, start = 0): void {
  // One comparison an id; which one it was is looked for only where there is one.
  let highest = 0;
  for (let index = 0; index < tokens.length; index++) {
    if ((tokens[index] as number) > highest) highest = tokens[index] as number;
  }
  if (highest < vocabSize) return;
  const index = tokens.findIndex((id) => id >= vocabSize);
  throw new DataError(
    `${place}: token ${start + index} has id ${tokens[index]}, the vocabulary has ${vocabSize} (0 to ${vocabSize - 1})`,
    { hint: "the file was written with another tokenizer or another integer type" },
  );
}

/**
 * For each place, where in its sequence the current document starts: the first place that a document mask lets it attend
 * to. The end-of-text token belongs to the document it closes.
 * @param ids [B * S].
 * @returns [B * S], from 0 to S - 1.
 */
export function documentStarts(ids: Int32Array, sequenceLength: number, eosTokenId: number): Int32Array {
  const starts = new Int32Array(ids.length);
  for (let first = 0; first < ids.length; first += sequenceLength) {
    let start = 0;
    for (let index = 1; index < sequenceLength; index++) {
      if (ids[first + index - 1] === eosTokenId) start = index;
      starts[first + index] = start;
    }
  }
  return starts;
}
