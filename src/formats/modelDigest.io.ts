/** What tells models and tokenizers apart in the files that are made with them. */
import { createHash } from "node:crypto";
import type { Parameters } from "../model/parameters.ts";
import { openModelFiles } from "./modelFiles.io.ts";

/** Tensors up to this size go in whole: every router, norm, and all of a small model. */
const WHOLE_BYTES = 2 ** 20;
const PIECES = 8;
const PIECE_BYTES = 4096;

/**
 * A digest of a model's weights as they are stored: SHA-256 over name, type and shape of each tensor, under Hugging Face's
 * names of one tensor per expert, in the order of their names, and over its bytes: all of them up to 1 MiB, else 8 pieces
 * of 4 KiB, spread evenly. It is made in less than a second for a model of any size, and training changes it; a file that
 * was damaged between the pieces is not found by it.
 * @throws CheckpointError for what is missing, damaged or no model; the signal's reason when it is aborted.
 */
export async function modelDigest(path: string, signal?: AbortSignal): Promise<string> {
  const files = await openModelFiles(path);
  try {
    const hash = createHash("sha256");
    for (const [name, slice] of [...files.slices].sort(byName)) {
      signal?.throwIfAborted();
      hash.update(JSON.stringify([name, slice.type.toUpperCase(), slice.shape]));
      for (const [start, end] of piecesOf(slice.byteLength)) {
        const piece = new Uint8Array(end - start);
        await files.read(slice, piece, start);
        hash.update(piece);
      }
    }
    return `sha256:${hash.digest("hex")}`;
  } finally {
    await files.close();
  }
}

/** The digest that a model in memory will have as a folder in transformers' format. */
export function parametersDigest(parameters: Parameters): string {
  const hash = createHash("sha256");
  const tensors = parameters.tensors().map(({ name, shape, data }) => [name, { shape, data }] as const);
  for (const [name, { shape, data }] of tensors.sort(byName)) {
    hash.update(JSON.stringify([name, "F32", shape]));
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    for (const [start, end] of piecesOf(bytes.length)) hash.update(bytes.subarray(start, end));
  }
  return `sha256:${hash.digest("hex")}`;
}

const byName = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]) => (a < b ? -1 : 1);

/** The bytes of a tensor that go in. */
function piecesOf(bytes: number): (readonly [start: number, end: number])[] {
  if (bytes <= WHOLE_BYTES) return [[0, bytes]];
  return Array.from({ length: PIECES }, (_, index) => {
    const start = Math.floor((index * (bytes - PIECE_BYTES)) / (PIECES - 1));
    return [start, start + PIECE_BYTES];
  });
}

/** A digest of a tokenizer.json. */
export function tokenizerDigest(json: string): string {
  return `sha256:${createHash("sha256").update(json).digest("hex")}`;
}
