/** What tells models and tokenizers apart in the files that are made with them. */
import { createHash } from "node:crypto";
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
    const slices = [...files.slices].sort(([a], [b]) => (a < b ? -1 : 1));
    for (const [name, slice] of slices) {
      signal?.throwIfAborted();
      hash.update(JSON.stringify([name, slice.type, slice.shape]));
      const whole = slice.byteLength <= WHOLE_BYTES;
      const piece = new Uint8Array(whole ? slice.byteLength : PIECE_BYTES);
      for (let index = 0; index < (whole ? 1 : PIECES); index++) {
        const start = Math.floor((index * (slice.byteLength - piece.byteLength)) / (PIECES - 1));
        await files.read(slice, piece, start);
        hash.update(piece);
      }
    }
    return `sha256:${hash.digest("hex")}`;
  } finally {
    await files.close();
  }
}

/** A digest of a tokenizer.json. */
export function tokenizerDigest(json: string): string {
  return `sha256:${createHash("sha256").update(json).digest("hex")}`;
}
