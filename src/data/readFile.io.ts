/** Bytes of files: whole, or line by line. Every failure is one error that names the file. */
import { createReadStream } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { DataError, OlmoeError, ResourceError } from "../errors.ts";

/** A single document or line beyond this is not text for a language model. */
const MAX_DOCUMENT_BYTES = 256 * 2 ** 20;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EACCES: "may not be read or written (EACCES)",
  ENOSPC: "disk is full",
  EISDIR: "is a folder, expected a file",
  ENOTDIR: "a part of the path is not a folder",
  Z_BUF_ERROR: "gzip stream ends early",
  Z_DATA_ERROR: "gzip stream is damaged",
};

/** The library's error for a failed file operation; its own errors and aborts pass through. */
export function fileError(file: string, cause: unknown): unknown {
  const { code, name, message } = cause as NodeJS.ErrnoException;
  if (cause instanceof OlmoeError || name === "AbortError") return cause;
  const Kind = code === "ENOSPC" || code === "EACCES" ? ResourceError : DataError;
  return new Kind(`${file}: ${REASONS[code ?? ""] ?? message}`, { cause });
}

/**
 * Reads a file that is one document.
 * @throws DataError if it is missing, a folder or larger than 256 MiB.
 */
export async function readWholeFile(file: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(file);
    if (size > MAX_DOCUMENT_BYTES) {
      throw new DataError(`${file}: ${size} bytes, one document has at most ${MAX_DOCUMENT_BYTES}`);
    }
    return await readFile(file);
  } catch (error) {
    throw fileError(file, error);
  }
}

/**
 * Lines of a file without their line end, gzip undone where the name ends in ".gz". Holds one line in memory.
 * @throws DataError for a missing file, a damaged or truncated gzip stream, or a line larger than 256 MiB.
 */
export async function* readLines(file: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const raw = createReadStream(file, { signal });
  const bytes: AsyncIterable<Buffer> = file.endsWith(".gz") ? pipeline(raw, createGunzip(), () => {}) : raw;
  let parts: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of bytes) {
      let start = 0;
      for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, start)) {
        yield Buffer.concat([...parts, chunk.subarray(start, end)]);
        parts = [];
        size = 0;
        start = end + 1;
      }
      parts.push(chunk.subarray(start));
      size += chunk.length - start;
      if (size > MAX_DOCUMENT_BYTES) {
        throw new DataError(`${file}: a line is longer than ${MAX_DOCUMENT_BYTES} bytes`);
      }
    }
    if (size > 0) yield Buffer.concat(parts);
  } catch (error) {
    throw fileError(file, error);
  } finally {
    raw.destroy();
  }
}
