/** Writes and reads token files and the spans of their documents. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync, statSync } from "node:fs";
import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { DataError } from "../errors.ts";
import { writeAll } from "../util/files.io.ts";
import type { Document } from "./document.ts";
import { LineWriter, type OutputFile, partialOf } from "./lines.io.ts";
import { fileError } from "./readFile.io.ts";
import {
  checkIds,
  newTokenArray,
  type TokenArray,
  type TokenDType,
  type Tokens,
  tokenArrayOver,
  tokenBytesOf,
  tokenCount,
} from "./tokenFile.ts";

/** Ids that are collected before they are written. */
const BUFFER_TOKENS = 2 ** 18;

/** Bytes that small reads share: a buffer for each would take as long as reading it. */
const SLAB_BYTES = 2 ** 18;

/** A CSV field as Python's csv module writes it. */
function csvField(value: string): string {
  return /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;
}

/** Writes one token file with the spans of its documents; both appear when it is closed. */
export class TokenFileWriter {
  tokens = 0;
  documents = 0;
  readonly #directory: string;
  readonly #base: string;
  readonly #handle: FileHandle;
  readonly #spans: LineWriter;
  readonly #buffer: TokenArray;
  readonly #sha256 = createHash("sha256");
  #filled = 0;

  private constructor(directory: string, base: string, handle: FileHandle, spans: LineWriter, dtype: TokenDType) {
    this.#directory = directory;
    this.#base = base;
    this.#handle = handle;
    this.#spans = spans;
    this.#buffer = newTokenArray(dtype, BUFFER_TOKENS);
  }

  /**
   * @param base path without ending, relative to `directory`: `base`.npy has the ids, `base`.csv.gz a line (start, end, id,
   *   file, line) for each document, as `dolma tokens` writes them.
   * @throws ResourceError where the disk is full or may not be written.
   */
  static async open(directory: string, base: string, dtype: TokenDType): Promise<TokenFileWriter> {
    const place = path.join(directory, `${base}.npy`);
    try {
      await mkdir(path.dirname(place), { recursive: true });
      const handle = await open(partialOf(place), "w");
      return new TokenFileWriter(directory, base, handle, await LineWriter.open(directory, `${base}.csv.gz`), dtype);
    } catch (error) {
      throw fileError(place, error);
    }
  }

  /** Adds a document's ids, the end-of-text token included. */
  async add(ids: ArrayLike<number>, { id, path: file, line }: Document): Promise<void> {
    const end = this.tokens + ids.length;
    await this.#spans.text(`${[this.tokens, end, csvField(id), csvField(file), line].join(",")}\r\n`);
    for (let index = 0; index < ids.length; index++) {
      if (this.#filled === BUFFER_TOKENS) await this.#flush();
      this.#buffer[this.#filled++] = ids[index] as number;
    }
    this.tokens = end;
    this.documents += 1;
  }

  /** Makes both files appear. */
  async close(): Promise<OutputFile[]> {
    const file = `${this.#base}.npy`;
    const place = path.join(this.#directory, file);
    try {
      await this.#flush();
      await this.#handle.sync();
      await this.#handle.close();
      const spans = await this.#spans.close();
      await rename(partialOf(place), place);
      const bytes = this.tokens * this.#buffer.BYTES_PER_ELEMENT;
      return [{ file, bytes, sha256: this.#sha256.digest("hex") }, spans];
    } catch (error) {
      throw fileError(place, error);
    }
  }

  /** Gives up and removes what was written. */
  async abandon(): Promise<void> {
    await this.#spans.abandon();
    await this.#handle.close().catch(() => undefined);
    await rm(partialOf(path.join(this.#directory, `${this.#base}.npy`)), { force: true });
  }

  async #flush(): Promise<void> {
    const bytes = new Uint8Array(this.#buffer.buffer, 0, this.#filled * this.#buffer.BYTES_PER_ELEMENT);
    this.#sha256.update(bytes);
    try {
      await writeAll(this.#handle, bytes);
    } catch (error) {
      throw fileError(path.join(this.#directory, `${this.#base}.npy`), error);
    }
    this.#filled = 0;
  }
}

/**
 * A token file that is read in places: the system keeps what is read often, so nothing is mapped or held. A file that
 * becomes shorter meanwhile is an error, where a mapped one would end the process.
 */
export class TokenFile implements Tokens {
  readonly length: number;
  readonly #file: string;
  readonly #dtype: TokenDType;
  readonly #vocabSize: number;
  #descriptor: number | undefined;
  #slab = new ArrayBuffer(0);
  #slabUsed = 0;

  /** @throws DataError for a missing file or an odd length. */
  constructor(file: string, dtype: TokenDType, vocabSize: number) {
    this.#file = file;
    this.#dtype = dtype;
    this.#vocabSize = vocabSize;
    try {
      this.length = tokenCount(statSync(file).size, dtype, file);
    } catch (error) {
      throw fileError(file, error);
    }
  }

  /** @throws DataError for an id outside the vocabulary, or a file that has become shorter. */
  subarray(start: number, end: number): TokenArray {
    const tokens = this.#room(end - start);
    const bytes = new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength);
    const position = start * tokenBytesOf(this.#dtype);
    try {
      this.#descriptor ??= openSync(this.#file, "r");
      for (let done = 0; done < bytes.length; ) {
        const read = readSync(this.#descriptor, bytes, done, bytes.length - done, position + done);
        if (read === 0) {
          throw new DataError(`${this.#file}: ends at byte ${position + done}, expected ${position + bytes.length}`, {
            hint: "it became shorter since it was opened; prepare the data again",
          });
        }
        done += read;
      }
    } catch (error) {
      throw fileError(this.#file, error);
    }
    checkIds(tokens, this.#vocabSize, this.#file, start);
    return tokens;
  }

  /** Memory for so many ids that nothing else has. */
  #room(length: number): TokenArray {
    const bytes = length * tokenBytesOf(this.#dtype);
    if (bytes > SLAB_BYTES / 16) return newTokenArray(this.#dtype, length);
    if (this.#slabUsed + bytes > this.#slab.byteLength) {
      this.#slab = new ArrayBuffer(SLAB_BYTES);
      this.#slabUsed = 0;
    }
    const place = this.#slabUsed;
    this.#slabUsed += bytes;
    return tokenArrayOver(this.#dtype, this.#slab, place, length);
  }

  /** Lets go of the file; a later read opens it again. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

/**
 * Reads a token file into memory and checks every id.
 * @throws DataError for a missing file, an odd length or an id outside the vocabulary.
 */
export function readTokenFile(file: string, dtype: TokenDType, vocabSize: number): TokenArray {
  const tokens = new TokenFile(file, dtype, vocabSize);
  try {
    return tokens.subarray(0, tokens.length);
  } finally {
    tokens.close();
  }
}
