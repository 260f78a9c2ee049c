/** General compressors as a yardstick: a model that predicts text worse than they do has learnt little. */
import { brotliCompressSync, constants } from "node:zlib";
import { DataError } from "../errors.ts";

/**
 * Size of the text under brotli at its strongest (quality 11, window of 2^24 bytes), which has seen no other text.
 *
 * @returns bits per byte of UTF-8.
 * @throws DataError if the text is empty.
 */
export function brotliBitsPerByte(text: string): number {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length === 0) throw new DataError("brotliBitsPerByte: the text is empty, needs at least 1 byte");
  const compressed = brotliCompressSync(bytes, {
    params: {
      [constants.BROTLI_PARAM_MODE]: constants.BROTLI_MODE_TEXT,
      [constants.BROTLI_PARAM_QUALITY]: 11,
      [constants.BROTLI_PARAM_LGWIN]: 24,
      [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
    },
  });
  return (8 * compressed.length) / bytes.length;
}
