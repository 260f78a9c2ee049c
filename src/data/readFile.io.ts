/** Whole files. Every failure is one error that names the file. */
import { readFile, stat } from "node:fs/promises";
import { DataError, OlmoeError, ResourceError } from "../errors.ts";

/** A single document beyond this is not text for a language model. */
export const MAX_DOCUMENT_BYTES = 64 * 2 ** 20;

const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "does not exist",
  EACCES: "may not be read or written (EACCES)",
  ENOSPC: "disk is full",
  EISDIR: "is a folder, expected a file",
  EEXIST: "is a file, expected a folder",
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
 * @throws DataError if it is missing, a folder or larger than 64 MiB.
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
