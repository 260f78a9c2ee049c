/** Routing traces as files. */
import { type FileHandle, open } from "node:fs/promises";
import { DataError } from "../errors.ts";
import { fileError, openRegular, readFully, writeAll } from "../util/files.io.ts";
import type { Trace, TraceHeader, TraceRows } from "./trace.ts";
import { TraceEncoder, type TraceRowsOf } from "./traceEncoder.ts";
import type { WholeChunks } from "./traceFile.ts";
import { type ByteSource, type OpenTraceOptions, openTraceSource, unfinishedTrace } from "./traceReader.ts";

export interface WriteTraceOptions {
  /** How a token is written in the tokenizer's vocabulary (`Tokenizer.entry`). */
  readonly tokenText?: ((id: number) => string | undefined) | undefined;
  /**
   * What to do where there is a file: `refuse` (the default), `replace` it, or `resume` a trace of the same header that was
   * not finished.
   */
  readonly existing?: "refuse" | "replace" | "resume" | undefined;
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

  /** @throws ConfigError for a header that can not be; DataError for a file that is in the way; ResourceError of the system. */
  static async create(
    path: string,
    header: TraceHeader,
    { tokenText, existing = "refuse" }: WriteTraceOptions = {},
  ): Promise<TraceWriter> {
    const flags = existing === "replace" ? "w" : "wx";
    const encoder = new TraceEncoder(header, { tokenText });
    const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw fileError("write", path, error);
      return undefined;
    });
    if (file === undefined) return TraceWriter.#resume(path, encoder.header, { tokenText, existing });
    const writer = new TraceWriter(path, file, encoder);
    await writer.#write(encoder.begin());
    return writer;
  }

  static async #resume(
    path: string,
    header: TraceHeader,
    { tokenText, existing }: WriteTraceOptions,
  ): Promise<TraceWriter> {
    const inTheWay = (fault: string) =>
      new DataError(`${path}: ${fault}`, { hint: "choose another name, or replace it with --force" });
    if (existing !== "resume") throw inTheWay("is there already");
    const { file, bytes } = await openRegular(path);
    let after: WholeChunks | undefined;
    try {
      after = await unfinishedTrace({ name: path, bytes, read: readerOf(file, path) });
    } finally {
      await file.close();
    }
    if (after === undefined) throw inTheWay("is a finished trace");
    if (JSON.stringify(after.header) !== JSON.stringify(header)) {
      throw inTheWay("is an unfinished trace of another model or with other columns");
    }
    // Where the file ends is where writing goes on.
    const target = await open(path, "a").catch((error: unknown) => Promise.reject(fileError("write", path, error)));
    await target.truncate(after.end);
    return new TraceWriter(path, target, new TraceEncoder(header, { tokenText, after }));
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
    if (parts.length === 0) return;
    try {
      // One turn of the event loop, not one for each part: an engine in this thread works between turns.
      await writeAll(this.#file, Buffer.concat(parts));
    } catch (error) {
      throw fileError("write", this.path, error);
    }
  }
}

function readerOf(file: FileHandle, path: string): ByteSource["read"] {
  return async (offset, length) => {
    const target = new Uint8Array(length);
    await readFully(file, path, target, offset);
    return target;
  };
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
  try {
    const trace = await openTraceSource({ name: path, bytes, read: readerOf(file, path) }, options);
    const close = () => file.close();
    return { ...trace, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await file.close();
    throw error;
  }
}
