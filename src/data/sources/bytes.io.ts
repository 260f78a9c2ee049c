/** Bytes of a file with its compression undone, as a stream, whole or by line. Every failure is one error that names the file. */
import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { DataError } from "../../errors.ts";
import { fileError, MAX_DOCUMENT_BYTES } from "../readFile.io.ts";
import { decodeBzip2 } from "./bzip2.ts";
import { type Compression, compressionOf } from "./formats.ts";
import { splitLines } from "./lines.ts";
import { decodeZstd } from "./zstd.ts";

const CHUNK_BYTES = 2 ** 18;

/** A line or row beyond this is refused. */
export const MAX_RECORD_BYTES = 32 * 2 ** 20;

const DECODERS: Readonly<Record<Compression, (raw: NodeJS.ReadableStream) => AsyncIterable<Uint8Array>>> = {
  // The error of the pipeline is also that of its last stream, which is read.
  gzip: (raw) => pipeline(raw, createGunzip({ chunkSize: CHUNK_BYTES }), () => {}),
  zstd: (raw) => decodeZstd(raw as AsyncIterable<Uint8Array>),
  bzip2: (raw) => decodeBzip2(raw as AsyncIterable<Uint8Array>),
};

/**
 * The bytes of a file.
 * @param name of the file in messages; its ending tells the compression, streams of several members are read whole.
 * @throws DataError for a missing file, or a stream that is empty, cut off or damaged.
 */
export async function* readBytes(file: string, name: string, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const compression = compressionOf(name);
  const raw = createReadStream(file, { signal, highWaterMark: CHUNK_BYTES });
  try {
    if (compression === undefined) yield* raw;
    else {
      if ((await stat(file)).size === 0) throw new DataError(`${name}: is empty, expected a ${compression} stream`);
      yield* DECODERS[compression](raw);
    }
  } catch (error) {
    signal?.throwIfAborted();
    throw fileError(name, error);
  } finally {
    raw.destroy();
  }
}

/** A file that is one document; undefined where it is larger than 64 MiB. */
export async function readDocumentBytes(chunks: AsyncIterable<Uint8Array>): Promise<Uint8Array | undefined> {
  const parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    size += chunk.length;
    if (size > MAX_DOCUMENT_BYTES) return undefined;
    parts.push(chunk);
  }
  return Buffer.concat(parts, size);
}

/**
 * Lines of a file without their line end. Holds one line in memory.
 * @throws DataError as readBytes does, and for a line larger than 32 MiB.
 */
export async function* readLines(file: string, name = file, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  for await (const lines of splitLines(readBytes(file, name, signal), MAX_RECORD_BYTES)) {
    for (const line of lines) {
      if (line === undefined) throw new DataError(`${name}: a line is longer than ${MAX_RECORD_BYTES} bytes`);
      yield line;
    }
  }
}
