/**
 * Token files as `dolma tokens` writes and OLMo's trainer reads them: ids one after another as little-endian uint16 (uint32
 * for a larger vocabulary) without a header, each document closed by the end-of-text token.
 */
import { DataError } from "../errors.ts";

export type TokenArray = Uint16Array | Uint32Array;
export type TokenDType = "uint16" | "uint32";

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

/**
 * Reads a token file's bytes.
 * @param place the file, for messages.
 * @throws DataError for a length that is not a whole number of ids, or an id outside the vocabulary.
 */
export function parseTokens(bytes: Uint8Array, dtype: TokenDType, vocabSize: number, place: string): TokenArray {
  const width = tokenBytesOf(dtype);
  if (bytes.byteLength % width !== 0) {
    throw new DataError(`${place}: ${bytes.byteLength} bytes, expected a multiple of ${width} (${dtype})`, {
      hint: "delete the folder it is in, so that the data is prepared again",
    });
  }
  const aligned = bytes.byteOffset % width === 0 ? bytes : bytes.slice();
  const length = aligned.byteLength / width;
  const tokens =
    dtype === "uint16"
      ? new Uint16Array(aligned.buffer, aligned.byteOffset, length)
      : new Uint32Array(aligned.buffer, aligned.byteOffset, length);
  const index = tokens.findIndex((id) => id >= vocabSize);
  if (index !== -1) {
    throw new DataError(
      `${place}: token ${index} has id ${tokens[index]}, the vocabulary has ${vocabSize} (0 to ${vocabSize - 1})`,
      { hint: "the file was written with another tokenizer or another integer type" },
    );
  }
  return tokens;
}

/**
 * For each place, where in its sequence the current document starts: the first place that a document mask lets it attend
 * to. The end-of-text token belongs to the document it closes.
 * @param ids [B * S].
 * @returns [B * S], from 0 to S - 1.
 */
export function documentStarts(ids: Int32Array, sequenceLength: number, eosTokenId: number): Int32Array {
  const starts = new Int32Array(ids.length);
  for (let place = 0; place < ids.length; place++) {
    const index = place % sequenceLength;
    if (index === 0) continue;
    starts[place] = ids[place - 1] === eosTokenId ? index : (starts[place - 1] as number);
  }
  return starts;
}
