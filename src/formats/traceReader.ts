/** Reads routing traces from wherever their bytes are. */
import type { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { DataError } from "../errors.ts";
import { crc32c } from "../util/crc32c.ts";
import { f16ToF32 } from "./halves.ts";
import {
  checkSelection,
  columnWidth,
  cutChunk,
  NO_EXPERT,
  type Trace,
  type TraceChunk,
  type TraceColumn,
  type TraceHeader,
  type TraceRun,
  type TraceSelection,
} from "./trace.ts";
import {
  type ChunkMeta,
  type ColumnArray,
  chunkSchema,
  columnBytes,
  END_MAGIC,
  elementBytes,
  expertBytes,
  HEAD_BYTES,
  headerSchema,
  type Index,
  indexSchema,
  KINDS,
  MAGIC,
  MOST_META_BYTES,
  padded,
  RECORD_BYTES,
  TAIL_BYTES,
  VERSION,
  type WholeChunks,
} from "./traceFile.ts";

/** Where the bytes of a trace are. */
export interface ByteSource {
  /** For messages. */
  readonly name: string;
  readonly bytes: number;
  /** Reads bytes that are there, into memory that begins at a multiple of 8. */
  read(offset: number, length: number): Promise<Uint8Array<ArrayBuffer>>;
}

export interface OpenTraceOptions {
  /** Read the whole chunks of a file that is still being written or was cut off, instead of refusing it. */
  readonly partial?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface RecordHead {
  readonly kind: number;
  readonly metaBytes: number;
  readonly crc: number;
  readonly bodyBytes: number;
}

/**
 * Opens a trace. Only its header and index are read before chunks are asked for.
 * @throws DataError, from here and from `chunks`, for what is no trace, damaged, cut off, or of a later version.
 */
export async function openTraceSource(source: ByteSource, options: OpenTraceOptions = {}): Promise<Trace> {
  const reader = new TraceReader(source);
  const header = await reader.header();
  const whole = await reader.index();
  const index = whole ?? (await readPartial(reader, header, source, options));
  const { tokens, sources } = index;
  const trace: Trace = {
    header,
    tokens,
    ...(whole === undefined ? { unfinished: true as const } : {}),
    sources,
    vocabulary: new Map(index.vocabulary),
    chunks: (selection = {}) => reader.chunks(header, index, selection),
  };
  return trace;
}

/**
 * What can be gone on from in a file that was not finished; undefined where it was.
 * @throws DataError for what is no trace, or damaged.
 */
export async function unfinishedTrace(source: ByteSource, signal?: AbortSignal): Promise<WholeChunks | undefined> {
  const reader = new TraceReader(source);
  const header = await reader.header();
  if ((await reader.index()) !== undefined) return undefined;
  return { header, ...(await reader.scan(header, signal)) };
}

async function readPartial(
  reader: TraceReader,
  header: TraceHeader,
  { name, bytes }: ByteSource,
  { partial = false, signal }: OpenTraceOptions,
): Promise<Index> {
  const { index, end } = await reader.scan(header, signal);
  if (partial) return index;
  throw new DataError(
    `${name}: it has no end; its last whole chunk ends at byte ${end} of ${bytes}, with ${index.tokens} tokens`,
    { hint: "it is still being written or was cut off: --partial reads what is whole" },
  );
}

class TraceReader {
  readonly #source: ByteSource;
  /** The record after the header. */
  #first = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  async header(): Promise<TraceHeader> {
    const { bytes } = this.#source;
    const head = await this.#source.read(0, Math.min(HEAD_BYTES, bytes));
    if (new TextDecoder("latin1").decode(head.subarray(0, 8)) !== MAGIC) {
      throw this.#fault(`no routing trace, expected "${MAGIC}" at its start`, "record one with olmoe trace");
    }
    if (bytes < HEAD_BYTES + RECORD_BYTES) throw this.#fault(`ends after ${bytes} bytes, within its header`);
    const version = new DataView(head.buffer, head.byteOffset).getUint32(8, true);
    if (version !== VERSION) {
      throw this.#fault(`version ${version}, expected ${VERSION}`, "a newer olmoe made it: update this one");
    }
    const record = await this.#recordHead(HEAD_BYTES);
    if (record.kind !== KINDS.head) throw this.#fault("no header behind its first bytes");
    const header = await this.#meta(HEAD_BYTES, record, headerSchema, "header");
    this.#first = HEAD_BYTES + RECORD_BYTES + record.metaBytes + record.bodyBytes;
    return header;
  }

  /** @returns undefined where the file has no end. */
  async index(): Promise<Index | undefined> {
    const { bytes } = this.#source;
    if (bytes < this.#first + RECORD_BYTES + TAIL_BYTES) return undefined;
    const tail = await this.#source.read(bytes - TAIL_BYTES, TAIL_BYTES);
    if (new TextDecoder("latin1").decode(tail.subarray(8)) !== END_MAGIC) return undefined;
    const offset = Number(new DataView(tail.buffer, tail.byteOffset).getBigUint64(0, true));
    if (offset < this.#first || offset + RECORD_BYTES + TAIL_BYTES > bytes || offset % 8 !== 0) {
      throw this.#fault(`its end names byte ${offset} for the index, the file has ${bytes}`);
    }
    const record = await this.#recordHead(offset);
    if (record.kind !== KINDS.index) throw this.#fault(`no index at byte ${offset}`);
    const index = await this.#meta(offset, record, indexSchema, "index");
    const sum = index.chunks.reduce((total, [, tokens]) => total + tokens, 0);
    if (sum !== index.tokens) throw this.#fault(`its index counts ${index.tokens} tokens, its chunks have ${sum}`);
    return index;
  }

  /** Finds the whole chunks of a file without an index, one after the other. */
  async scan(header: TraceHeader, signal?: AbortSignal): Promise<Omit<WholeChunks, "header">> {
    const { bytes } = this.#source;
    const chunks: Index["chunks"] = [];
    const [sources, vocabulary]: [string[], Index["vocabulary"]] = [[], []];
    let [tokens, offset] = [0, this.#first];
    while (offset + RECORD_BYTES <= bytes) {
      signal?.throwIfAborted();
      const record = await this.#recordHead(offset);
      const end = offset + RECORD_BYTES + record.metaBytes + record.bodyBytes;
      if (record.kind !== KINDS.chunk || end > bytes) break;
      const meta = await this.#chunkMeta(offset, record, header);
      chunks.push([offset, meta.tokens]);
      sources.push(...meta.sources);
      vocabulary.push(...meta.vocabulary);
      tokens += meta.tokens;
      offset = end;
    }
    return { index: { tokens, chunks, sources, vocabulary }, end: offset };
  }

  async *chunks(
    header: TraceHeader,
    index: Index,
    { signal, ...selection }: TraceSelection,
  ): AsyncIterable<TraceChunk> {
    const checked = checkSelection({ header, tokens: index.tokens }, selection);
    let start = 0;
    for (const [offset, tokens] of index.chunks) {
      if (start >= checked.end) return;
      if (start + tokens > checked.start) {
        signal?.throwIfAborted();
        const chunk = await this.#chunk(header, { offset, tokens, start }, index.sources.length, checked.columns);
        yield cutChunk(chunk, header.layers.length, checked);
      }
      start += tokens;
    }
  }

  async #chunk(
    header: TraceHeader,
    { offset, tokens, start }: { readonly offset: number; readonly tokens: number; readonly start: number },
    sources: number,
    columns: readonly TraceColumn[],
  ): Promise<TraceChunk> {
    const record = await this.#recordHead(offset);
    const meta = await this.#chunkMeta(offset, record, header);
    const place = `chunk at byte ${offset}`;
    if (meta.tokens !== tokens || meta.start !== start) {
      throw this.#fault(
        `${place}: tokens from ${meta.start}, ${meta.tokens} of them; its index has ${start}, ${tokens}`,
      );
    }
    const runs = meta.runs.map(([sequence, source, position, length]): TraceRun => {
      if (source >= sources) throw this.#fault(`${place}: source ${source}, there are ${sources}`);
      return { sequence, source, position, tokens: length };
    });
    const arrays: Partial<Record<TraceColumn, ColumnArray>> = {};
    let at = offset + RECORD_BYTES + record.metaBytes;
    for (const [number, column] of header.columns.entries()) {
      const bytes = columnBytes(column, header, tokens);
      if (columns.includes(column)) {
        const stored = await this.#read(at, padded(bytes), `${place}: ${column}`);
        if (crc32c(stored) !== meta.crc[number])
          throw this.#fault(`${place}: ${column} is damaged (its checksum differs)`);
        arrays[column] = decodeColumn(column, header, stored, tokens);
      }
      at += padded(bytes);
    }
    if (arrays.experts !== undefined) this.#checkExperts(arrays.experts, header.numExperts, place);
    return { start, tokens, runs, ...(arrays as Pick<TraceChunk, TraceColumn>) };
  }

  /** Those who count experts index arrays with them. */
  #checkExperts(experts: ColumnArray, numExperts: number, place: string): void {
    let [least, most] = [0, 0];
    for (const expert of experts) {
      if (expert < least) least = expert;
      else if (expert > most) most = expert;
    }
    const wrong = least < NO_EXPERT ? least : most >= numExperts ? most : undefined;
    if (wrong !== undefined) throw this.#fault(`${place}: expert ${wrong}, the model has 0..${numExperts - 1}`);
  }

  async #chunkMeta(offset: number, record: RecordHead, header: TraceHeader): Promise<ChunkMeta> {
    const place = `chunk at byte ${offset}`;
    if (record.kind !== KINDS.chunk) throw this.#fault(`${place}: it is none`);
    const meta = await this.#meta(offset, record, chunkSchema, place);
    const counted = meta.runs.reduce((sum, [, , , tokens]) => sum + tokens, 0);
    if (counted !== meta.tokens) throw this.#fault(`${place}: ${meta.tokens} tokens, its runs have ${counted}`);
    const bytes = header.columns.reduce((sum, column) => sum + padded(columnBytes(column, header, meta.tokens)), 0);
    if (bytes !== record.bodyBytes || meta.crc.length !== header.columns.length) {
      throw this.#fault(`${place}: ${record.bodyBytes} bytes of columns, expected ${bytes}`);
    }
    return meta;
  }

  async #recordHead(offset: number): Promise<RecordHead> {
    const bytes = await this.#read(offset, RECORD_BYTES, "a record");
    const [kind, metaBytes, crc, bodyBytes] = new Uint32Array(bytes.buffer, bytes.byteOffset, 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    if (metaBytes % 8 !== 0 || metaBytes > MOST_META_BYTES || bodyBytes % 8 !== 0) {
      throw this.#fault(`the record at byte ${offset} is damaged`);
    }
    return { kind, metaBytes, crc, bodyBytes };
  }

  async #meta<S extends z.ZodType>(
    offset: number,
    { metaBytes, crc }: RecordHead,
    schema: S,
    place: string,
  ): Promise<z.output<S>> {
    const bytes = await this.#read(offset + RECORD_BYTES, metaBytes, place);
    if (crc32c(bytes) !== crc) throw this.#fault(`${place}: damaged (its checksum differs)`);
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
    } catch (cause) {
      throw new DataError(`${this.#source.name}: ${place}: no JSON`, { cause });
    }
    return parseConfig(schema, value, `${this.#source.name}: ${place}`);
  }

  #read(offset: number, length: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
    if (offset + length <= this.#source.bytes) return this.#source.read(offset, length);
    throw this.#fault(`${what} reaches to byte ${offset + length}, the file has ${this.#source.bytes}`);
  }

  #fault(fault: string, hint?: string): DataError {
    return new DataError(`${this.#source.name}: ${fault}`, hint === undefined ? {} : { hint });
  }
}

function decodeColumn(
  column: TraceColumn,
  header: TraceHeader,
  bytes: Uint8Array<ArrayBuffer>,
  tokens: number,
): ColumnArray {
  const length = tokens * columnWidth(column, header);
  const { buffer, byteOffset } = bytes;
  if (column === "experts") {
    if (expertBytes(header) === 2) return new Int16Array(buffer, byteOffset, length);
    return new Int16Array(new Int8Array(buffer, byteOffset, length));
  }
  if (elementBytes(column, header) === 2) {
    const values = new Float32Array(length);
    f16ToF32(new Uint16Array(buffer, byteOffset, length), values);
    return values;
  }
  const Column = column === "ids" || column === "predicted" ? Int32Array : Float32Array;
  return new Column(buffer, byteOffset, length);
}

/** Opens a trace in memory or in a file that a page was given. @throws as `openTraceSource`. */
export async function openTraceBlob(
  blob: Blob & { readonly name?: string },
  options?: OpenTraceOptions,
): Promise<Trace> {
  const read = async (offset: number, length: number) =>
    new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
  return openTraceSource({ name: blob.name ?? "trace", bytes: blob.size, read }, options);
}
