/** Writes and reads token files and the spans of their documents. */
import { createHash } from "node:crypto";
import { type FileHandle, open, writeFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { type Document, utf8Bytes } from "./document.ts";
import { fileError, readWholeFile } from "./readFile.io.ts";
import { parseTokens, type TokenArray, type TokenDType } from "./tokenFile.ts";

export interface WrittenTokens {
  readonly tokens: number;
  readonly documents: number;
  /** UTF-8 bytes of the documents' text. */
  readonly textBytes: number;
  /** Of the token file, in hexadecimal. */
  readonly sha256: string;
}

export interface WriteTokensOptions {
  readonly tokenizer: Tokenizer;
  readonly dtype: TokenDType;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((written: { readonly bytes: number; readonly documents: number }) => void) | undefined;
}

/** Documents that are encoded together, in parallel. */
const BATCH_DOCUMENTS = 256;

/** A CSV field as Python's csv module writes it. */
function csvField(value: string): string {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

/** Ids of a document with one end-of-text token, which the text itself may already end in. */
function closed(ids: Int32Array, eosTokenId: number): Int32Array {
  if (ids.at(-1) === eosTokenId) return ids;
  const withEos = new Int32Array(ids.length + 1);
  withEos.set(ids);
  withEos[ids.length] = eosTokenId;
  return withEos;
}

/** Encodes and writes documents in order; returns the lines of the span table. */
async function writeDocuments(handle: FileHandle, documents: readonly Document[], options: WriteTokensOptions) {
  const { tokenizer, dtype, signal, onProgress } = options;
  const sha256 = createHash("sha256");
  const spans: string[] = [];
  let tokens = 0;
  let textBytes = 0;
  for (let start = 0; start < documents.length; start += BATCH_DOCUMENTS) {
    signal?.throwIfAborted();
    const batch = documents.slice(start, start + BATCH_DOCUMENTS);
    const encoded = await tokenizer.encodeBatch(batch.map(({ text }) => text));
    for (const [index, ids] of encoded.entries()) {
      const document = batch[index] as Document;
      const row = closed(ids, tokenizer.eosTokenId);
      const bytes = Buffer.from((dtype === "uint16" ? Uint16Array.from(row) : Uint32Array.from(row)).buffer);
      sha256.update(bytes);
      await handle.write(bytes);
      const end = tokens + row.length;
      spans.push([tokens, end, csvField(document.id), csvField(document.path), document.line].join(","));
      tokens = end;
      textBytes += utf8Bytes(document.text);
    }
    onProgress?.({ bytes: textBytes, documents: start + batch.length });
  }
  return { spans, written: { tokens, documents: documents.length, textBytes, sha256: sha256.digest("hex") } };
}

/**
 * Writes `base`.npy with the tokens and `base`.csv.gz with one line (start, end, id, file, line) for each document.
 * @throws ResourceError where the disk is full or may not be written.
 */
export async function writeTokenFile(
  base: string,
  documents: readonly Document[],
  options: WriteTokensOptions,
): Promise<WrittenTokens> {
  try {
    const handle = await open(`${base}.npy`, "w");
    try {
      const { spans, written } = await writeDocuments(handle, documents, options);
      await writeFile(`${base}.csv.gz`, gzipSync(spans.map((line) => `${line}\r\n`).join("")));
      return written;
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(`${base}.npy`, error);
  }
}

/**
 * Reads a token file into memory and checks every id.
 * @throws DataError for a missing file, an odd length or an id outside the vocabulary.
 */
export async function readTokenFile(file: string, dtype: TokenDType, vocabSize: number): Promise<TokenArray> {
  return parseTokens(await readWholeFile(file), dtype, vocabSize, file);
}
