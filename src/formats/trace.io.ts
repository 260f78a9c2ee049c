/** Routing traces as files. */
import { type FileHandle, open } from "node:fs/promises";
import { DataError } from "../errors.ts";
import { fileError, openRegular, readFully, writeAll } from "../util/files.io.ts";
import type { Trace, TraceHeader } from "./trace.ts";
import { TraceEncoder, type TraceRows, type TraceRowsOf } from "./traceEncoder.ts";
import { type OpenTraceOptions, openTraceSource } from "./traceReader.ts";

export interface WriteTraceOptions {
  /** How a token is written in the tokenizer's vocabulary (`Tokenizer.vocabularyText`). */
  readonly tokenText?: ((id: number) => string | undefined) | undefined;
  /** Replace a file that is there; default: refuse. */
  readonly overwrite?: boolean | undefined;
}

/** Writes a trace as it comes. Whole chunks can be read meanwhile, with `partial`. */
export class TraceWriter {
  readonly path: string;
  readonly #file: FileHandle;
  readonly #encoder: TraceEncoder;

  private constructor(path: string, file: FileHandle, encoder: TraceEncoder) {
    this.path = path;
    this.#file = file;
    this.#encoder = encoder;
  }

  /** @throws ConfigError for a header that can not be; DataError for a file that is there; ResourceError of the system. */
  static async create(
    path: string,
    header: TraceHeader,
    { tokenText, overwrite = false }: WriteTraceOptions = {},
  ): Promise<TraceWriter> {
    const encoder = new TraceEncoder(header, tokenText === undefined ? {} : { tokenText });
    const file = await open(path, overwrite ? "w" : "wx").catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw fileError("write", path, error);
      throw new DataError(`${path}: is there already`, { hint: "choose another name, or replace it with --force" });
    });
    const writer = new TraceWriter(path, file, encoder);
    await writer.#write(encoder.begin());
    return writer;
  }

  get header(): TraceHeader {
    return this.#encoder.header;
  }

  /** Tokens so far. */
  get tokens(): number {
    return this.#encoder.tokens;
  }

  /** Bytes in the file so far. */
  get bytes(): number {
    return this.#encoder.bytes;
  }

  /** Adds tokens of a sequence. @throws ShapeError as `TraceEncoder.add`; ResourceError of the system. */
  async add(of: TraceRowsOf, rows: TraceRows): Promise<void> {
    await this.#write(this.#encoder.add(of, rows));
  }

  /** Makes all that was added readable. */
  async flush(): Promise<void> {
    await this.#write(this.#encoder.flush());
  }

  /** Ends the file. A writer that is given up without it leaves a file that `partial` reads. */
  async close(): Promise<void> {
    await this.#write(this.#encoder.end());
    await this.#file.sync().catch((error: unknown) => Promise.reject(fileError("write", this.path, error)));
    await this.#file.close();
  }

  /** Gives the file back as it is: what was not flushed is lost. */
  async abandon(): Promise<void> {
    await this.#file.close();
  }

  async #write(parts: readonly Uint8Array[]): Promise<void> {
    try {
      for (const part of parts) await writeAll(this.#file, part);
    } catch (error) {
      throw fileError("write", this.path, error);
    }
  }
}

/** A trace in a file, which stays open until it is closed. */
export interface TraceFile extends Trace, AsyncDisposable {
  close(): Promise<void>;
}

/**
 * Opens a trace file.
 * @throws DataError for what is no trace, damaged, cut off (without `partial`), or of a later version, from here or from
 *   `chunks`; CheckpointError for a missing file or a folder.
 */
export async function openTrace(path: string, options: OpenTraceOptions = {}): Promise<TraceFile> {
  const { file, bytes } = await openRegular(path);
  const read = async (offset: number, length: number) => {
    const target = new Uint8Array(length);
    await readFully(file, path, target, offset);
    return target;
  };
  try {
    const trace = await openTraceSource({ name: path, bytes, read }, options);
    const close = () => file.close();
    return { ...trace, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await file.close();
    throw error;
  }
}
