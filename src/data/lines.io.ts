/** Files that tasks hand on: gzip-compressed JSON lines, whole or absent, with a digest of their bytes. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createWriteStream } from "node:fs";
import { mkdir, open, rename, rm } from "node:fs/promises";
import path from "node:path";
import { PassThrough, Transform } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createGzip } from "node:zlib";
import { DataError } from "../errors.ts";
import { fileError } from "./readFile.io.ts";
import { readBytes } from "./sources/bytes.io.ts";
import { splitLines } from "./sources/lines.ts";

/** A file of a task's output. */
export interface OutputFile {
  /** Relative to the folder of the data, with "/". */
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
}

/** Where a file is written until it is whole: each process has its own, so that two that do the same task do no harm. */
export const partialOf = (file: string) => `${file}.${process.pid}.partial`;

/** Text that is collected before it is handed on: a call for each line would cost more than its compression. */
const BATCH_CHARS = 2 ** 16;
/** The fastest level: these files are read once or twice, and compression is what a read task waits for. */
const LEVEL = 1;

/** Longer than the longest document as JSON, which may take six bytes for one. */
const MAX_LINE_BYTES = 2 ** 29;

/** Writes lines to a file that appears when it is closed. */
export class LineWriter {
  readonly #directory: string;
  readonly #file: string;
  readonly #input = new PassThrough();
  readonly #written: Promise<void>;
  readonly #sha256 = createHash("sha256");
  #bytes = 0;
  #pending = "";

  private constructor(directory: string, file: string) {
    this.#directory = directory;
    this.#file = file;
    const tap = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        this.#sha256.update(chunk);
        this.#bytes += chunk.length;
        done(null, chunk);
      },
    });
    this.#written = pipeline(this.#input, createGzip({ level: LEVEL }), tap, createWriteStream(this.#partial));
    // Whoever writes or closes next is told.
    this.#written.catch(() => undefined);
  }

  /** @param file relative to `directory`, with "/". */
  static async open(directory: string, file: string): Promise<LineWriter> {
    try {
      await mkdir(path.dirname(path.join(directory, file)), { recursive: true });
    } catch (error) {
      throw fileError(path.join(directory, file), error);
    }
    return new LineWriter(directory, file);
  }

  /** Adds a value as a line of JSON. */
  write(value: unknown): Promise<void> {
    return this.text(`${JSON.stringify(value)}\n`);
  }

  /** Adds text; waits where the disk is behind. @throws ResourceError for a full disk. */
  async text(text: string): Promise<void> {
    this.#pending += text;
    if (this.#pending.length >= BATCH_CHARS) await this.#flush();
  }

  /** Makes the file appear. */
  async close(): Promise<OutputFile> {
    await this.#flush();
    this.#input.end();
    const place = path.join(this.#directory, this.#file);
    try {
      await this.#written;
      const handle = await open(this.#partial);
      await handle.sync().finally(() => handle.close());
      await rename(this.#partial, place);
    } catch (error) {
      throw fileError(place, error);
    }
    return { file: this.#file, bytes: this.#bytes, sha256: this.#sha256.digest("hex") };
  }

  /** Gives up and removes what was written. */
  async abandon(): Promise<void> {
    this.#input.destroy();
    await this.#written.catch(() => undefined);
    await rm(this.#partial, { force: true });
  }

  get #partial(): string {
    return partialOf(path.join(this.#directory, this.#file));
  }

  async #flush(): Promise<void> {
    const text = this.#pending;
    this.#pending = "";
    try {
      if (!this.#input.write(text)) await Promise.race([once(this.#input, "drain"), this.#written]);
    } catch (error) {
      throw fileError(path.join(this.#directory, this.#file), error);
    }
  }
}

/** Opens several files, hands them to `write`, and closes them; none appears where it fails. */
export async function writingLines(
  directory: string,
  files: readonly string[],
  write: (...writers: LineWriter[]) => Promise<void>,
): Promise<OutputFile[]> {
  const writers: LineWriter[] = [];
  try {
    for (const file of files) writers.push(await LineWriter.open(directory, file));
    await write(...writers);
    const outputs: OutputFile[] = [];
    for (const writer of writers) outputs.push(await writer.close());
    return outputs;
  } catch (error) {
    for (const writer of writers) await writer.abandon();
    throw error;
  }
}

/**
 * The values of a file that a task has written.
 * @throws DataError where it is damaged.
 */
export async function* readValues<T>(directory: string, file: string, signal?: AbortSignal): AsyncGenerator<T> {
  const place = path.join(directory, file);
  let number = 0;
  for await (const lines of splitLines(readBytes(place, place, signal), MAX_LINE_BYTES)) {
    for (const line of lines) {
      number++;
      let value: T;
      try {
        value = JSON.parse(Buffer.from(line ?? []).toString()) as T;
      } catch (cause) {
        throw new DataError(`${place}:${number}: not JSON`, {
          cause,
          hint: `delete the folder work in ${directory} and build again`,
        });
      }
      yield value;
    }
  }
}
