/** Makes the bytes of a routing trace. */
import { parseConfig } from "../config/check.ts";
import { ShapeError } from "../errors.ts";
import { crc32c } from "../util/crc32c.ts";
import { f32ToF16 } from "./halves.ts";
import { columnWidth, isLayered, type TraceChunk, type TraceColumn, type TraceHeader } from "./trace.ts";
import {
  type ChunkMeta,
  type ColumnArray,
  columnBytes,
  END_MAGIC,
  elementBytes,
  expertBytes,
  HEAD_BYTES,
  headerSchema,
  type Index,
  KINDS,
  MAGIC,
  newColumn,
  padded,
  RECORD_BYTES,
  TAIL_BYTES,
  VERSION,
  type WholeChunks,
} from "./traceFile.ts";

const CHUNK_TOKENS = 4096;

/** Columns of neighbouring tokens of one sequence, as in `TraceChunk`. */
export type TraceRows = Pick<TraceChunk, "tokens" | TraceColumn>;

/** Whose tokens they are. */
export interface TraceRowsOf {
  readonly sequence: number;
  /** A name: its index in the trace's `sources` follows. */
  readonly source: string;
  /** Of the first token. */
  readonly position: number;
}

export interface TraceEncoderOptions {
  /** Tokens of a chunk; default 4096. */
  readonly chunkTokens?: number | undefined;
  /** How a token is written in the tokenizer's vocabulary; undefined: not at all. */
  readonly tokenText?: ((id: number) => string | undefined) | undefined;
  /** Go on behind these chunks of the same header: `begin` is not called. */
  readonly after?: WholeChunks | undefined;
}

/** Makes the bytes of a trace from rows as they come. Whatever a call returns is to be written, in order. */
export class TraceEncoder {
  readonly header: TraceHeader;
  readonly #chunkTokens: number;
  readonly #tokenText: (id: number) => string | undefined;
  readonly #columns: ReadonlyMap<TraceColumn, ColumnArray>;
  readonly #chunks: [offset: number, tokens: number][] = [];
  readonly #sources: string[] = [];
  readonly #vocabulary = new Map<number, string>();
  #newSources: string[] = [];
  #newVocabulary: [id: number, text: string][] = [];
  #runs: [sequence: number, source: number, position: number, tokens: number][] = [];
  #pending = 0;
  #tokens = 0;
  #offset = 0;

  /**
   * @throws ConfigError for a header that can not be.
   */
  constructor(
    header: TraceHeader,
    { chunkTokens = CHUNK_TOKENS, tokenText = () => undefined, after }: TraceEncoderOptions = {},
  ) {
    this.header = parseConfig(headerSchema, header, "trace header");
    this.#chunkTokens = chunkTokens;
    this.#tokenText = tokenText;
    this.#columns = new Map(
      header.columns.map((column) => [column, newColumn(column, chunkTokens * columnWidth(column, header))]),
    );
    if (after === undefined) return;
    const { index, end } = after;
    this.#chunks.push(...index.chunks);
    this.#sources.push(...index.sources);
    for (const [id, text] of index.vocabulary) this.#vocabulary.set(id, text);
    this.#tokens = index.tokens;
    this.#offset = end;
  }

  /** Tokens so far. */
  get tokens(): number {
    return this.#tokens;
  }

  /** Bytes so far. */
  get bytes(): number {
    return this.#offset;
  }

  /** What a file begins with. */
  begin(): Uint8Array[] {
    const head = new Uint8Array(HEAD_BYTES);
    head.set(new TextEncoder().encode(MAGIC));
    new DataView(head.buffer).setUint32(8, VERSION, true);
    return this.#counted([head, ...record(KINDS.head, this.header, [])]);
  }

  /**
   * Adds tokens of a sequence.
   * @param rows all columns of the header, and no others are looked at.
   * @throws ShapeError for a column of another length.
   */
  add({ sequence, source, position }: TraceRowsOf, rows: TraceRows): Uint8Array[] {
    this.#check(rows);
    const written: Uint8Array[] = [];
    for (let done = 0; done < rows.tokens; ) {
      const taken = Math.min(rows.tokens - done, this.#chunkTokens - this.#pending);
      this.#copy(rows, done, taken);
      this.#addRun(sequence, this.#sourceIndex(source), position + done, taken);
      this.#pending += taken;
      this.#tokens += taken;
      done += taken;
      if (this.#pending === this.#chunkTokens) written.push(...this.flush());
    }
    return written;
  }

  /** Ends the current chunk, so that all that was added can be read. */
  flush(): Uint8Array[] {
    const tokens = this.#pending;
    if (tokens === 0) return [];
    const bodies = this.header.columns.map((column) => this.#encode(column, tokens));
    const meta: ChunkMeta = {
      start: this.#tokens - tokens,
      tokens,
      runs: this.#runs,
      sources: this.#newSources,
      vocabulary: this.#newVocabulary,
      crc: bodies.map((body) => crc32c(body)),
    };
    this.#chunks.push([this.#offset, tokens]);
    const written = this.#counted(record(KINDS.chunk, meta, bodies));
    this.#pending = 0;
    this.#runs = [];
    this.#newSources = [];
    this.#newVocabulary = [];
    return written;
  }

  /** What a file ends with. */
  end(): Uint8Array[] {
    const last = this.flush();
    const index: Index = {
      tokens: this.#tokens,
      chunks: this.#chunks,
      sources: this.#sources,
      vocabulary: [...this.#vocabulary],
    };
    const tail = new Uint8Array(TAIL_BYTES);
    new DataView(tail.buffer).setBigUint64(0, BigInt(this.#offset), true);
    tail.set(new TextEncoder().encode(END_MAGIC), 8);
    return [...last, ...this.#counted([...record(KINDS.index, index, []), tail])];
  }

  #counted(parts: Uint8Array[]): Uint8Array[] {
    this.#offset += parts.reduce((sum, part) => sum + part.byteLength, 0);
    return parts;
  }

  #check(rows: TraceRows): void {
    for (const column of this.header.columns) {
      const expected = rows.tokens * columnWidth(column, this.header);
      if (rows[column]?.length === expected) continue;
      throw new ShapeError(`trace: ${column} of ${rows[column]?.length ?? 0} elements, expected ${expected}`);
    }
  }

  /** Copies rows behind the pending ones; layered columns have room for a whole chunk in each layer. */
  #copy(rows: TraceRows, from: number, tokens: number): void {
    for (const [column, target] of this.#columns) {
      const source = rows[column] as ColumnArray;
      const parts = isLayered(column) ? this.header.layers.length : 1;
      const width = columnWidth(column, this.header) / parts;
      for (let part = 0; part < parts; part++) {
        const begin = (part * rows.tokens + from) * width;
        target.set(source.subarray(begin, begin + tokens * width), (part * this.#chunkTokens + this.#pending) * width);
      }
    }
    const ids = rows.ids as Int32Array;
    for (let token = from; token < from + tokens; token++) this.#name(ids[token] as number);
    if (rows.predicted !== undefined && this.#columns.has("predicted")) {
      for (let token = from; token < from + tokens; token++) this.#name(rows.predicted[token] as number);
    }
  }

  #name(id: number): void {
    if (this.#vocabulary.has(id)) return;
    const text = this.#tokenText(id);
    if (text === undefined) return;
    this.#vocabulary.set(id, text);
    this.#newVocabulary.push([id, text]);
  }

  #sourceIndex(name: string): number {
    const index = this.#sources.indexOf(name);
    if (index >= 0) return index;
    this.#newSources.push(name);
    return this.#sources.push(name) - 1;
  }

  #addRun(sequence: number, source: number, position: number, tokens: number): void {
    const last = this.#runs.at(-1);
    if (last?.[0] === sequence && last[1] === source && last[2] + last[3] === position) last[3] += tokens;
    else this.#runs.push([sequence, source, position, tokens]);
  }

  #encode(column: TraceColumn, tokens: number): Uint8Array {
    const stored = this.#columns.get(column) as ColumnArray;
    const parts = isLayered(column) ? this.header.layers.length : 1;
    const room = stored.length / parts;
    const used = (room / this.#chunkTokens) * tokens;
    const values = newColumn(column, parts * used);
    for (let part = 0; part < parts; part++) {
      values.set(stored.subarray(part * room, part * room + used), part * used);
    }
    const bytes = new Uint8Array(padded(columnBytes(column, this.header, tokens)));
    if (values instanceof Int16Array) {
      const Narrow = expertBytes(this.header) === 1 ? Int8Array : Int16Array;
      new Narrow(bytes.buffer, 0, values.length).set(values);
    } else if (elementBytes(column, this.header) === 2) {
      f32ToF16(values as Float32Array, new Uint16Array(bytes.buffer, 0, values.length));
    } else bytes.set(new Uint8Array(values.buffer));
    return bytes;
  }
}

/** Head, meta and body of a record. @param bodies each a multiple of 8 bytes. */
function record(kind: number, value: unknown, bodies: readonly Uint8Array[]): Uint8Array[] {
  const json = new TextEncoder().encode(JSON.stringify(value));
  const meta = new Uint8Array(padded(json.byteLength)).fill(0x20);
  meta.set(json);
  const head = new Uint8Array(RECORD_BYTES);
  const bodyBytes = bodies.reduce((sum, body) => sum + body.byteLength, 0);
  new Uint32Array(head.buffer).set([kind, meta.byteLength, crc32c(meta), bodyBytes]);
  return [head, meta, ...bodies];
}
