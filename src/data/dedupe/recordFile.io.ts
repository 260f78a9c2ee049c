/**
 * Record files of deduplication: a header of eight little-endian words (two of magic, version, kind, words in a record, a
 * setting that writer and reader share, two of the number of records), then the records. Files of keys consist of runs of
 * equal size, the last one shorter, each with a table of where its buckets end: so a partition reads little more than its
 * own records, and a writer holds one run. A file is written beside its place, synced and renamed.
 */
import { type FileHandle, open, rename, rm } from "node:fs/promises";
import { DataError } from "../../errors.ts";
import { partialOf } from "../lines.io.ts";
import { fileError } from "../readFile.io.ts";
import { COPY_WORDS } from "./join.ts";
import { SIGNATURE_BYTES } from "./minhash.ts";
import { CUT_WORDS, PAIR_WORDS } from "./places.ts";
import { BUCKETS, type BucketRange, type KeyKind, RECORD_WORDS, sortByBucket } from "./records.ts";

export type RecordKind = KeyKind | "signatures" | "pairs" | "copies" | "cuts";

const WORDS: Readonly<Record<RecordKind, number>> = {
  ...RECORD_WORDS,
  signatures: SIGNATURE_BYTES / 4,
  pairs: PAIR_WORDS,
  copies: COPY_WORDS,
  cuts: CUT_WORDS,
};
const KINDS = Object.keys(WORDS) as RecordKind[];

/** "olmodedu". */
const MAGIC = [0x6f6d6c6f, 0x75646564] as const;
const VERSION = 1;
const HEADER_BYTES = 32;
const TABLE_BYTES = 4 * BUCKETS;
const RUN_BYTES = 4 * 2 ** 20;
/** Records of files without buckets that are read at once. */
const BLOCK_RECORDS = 4096;
const HINT = "delete it and run again the task that writes it";

function runRecordsOf(kind: RecordKind): number {
  return Math.floor(RUN_BYTES / (4 * WORDS[kind]));
}

function hasBuckets(kind: RecordKind): kind is KeyKind {
  return kind in RECORD_WORDS;
}

/** Where a run of a file of keys starts: its table, then its records. */
function runStart(kind: KeyKind, run: number): number {
  return HEADER_BYTES + run * (TABLE_BYTES + runRecordsOf(kind) * 4 * WORDS[kind]);
}

function fileBytes(kind: RecordKind, records: number): number {
  const tables = hasBuckets(kind) ? Math.ceil(records / runRecordsOf(kind)) : 0;
  return HEADER_BYTES + tables * TABLE_BYTES + records * 4 * WORDS[kind];
}

function bytesOf(words: Uint32Array): Uint8Array {
  return new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
}

/** Writes a record file; ends with `finish`, or with `discard` where anything failed. */
export class RecordWriter {
  readonly #file: string;
  readonly #kind: RecordKind;
  readonly #setting: number;
  readonly #handle: FileHandle;
  readonly #run: Uint32Array;
  readonly #sorted: Uint32Array;
  #held = 0;
  #records = 0;

  private constructor(file: string, kind: RecordKind, setting: number, handle: FileHandle) {
    this.#file = file;
    this.#kind = kind;
    this.#setting = setting;
    this.#handle = handle;
    this.#run = new Uint32Array(runRecordsOf(kind) * WORDS[kind]);
    this.#sorted = hasBuckets(kind) ? new Uint32Array(this.#run.length) : this.#run;
  }

  /** @throws ResourceError or DataError where the file can not be written, as all methods do. */
  static async create(file: string, kind: RecordKind, setting = 0): Promise<RecordWriter> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(partialOf(file), "w");
      await handle.write(new Uint8Array(HEADER_BYTES));
      return new RecordWriter(file, kind, setting, handle);
    } catch (error) {
      await handle?.close();
      throw fileError(file, error);
    }
  }

  /** Records so far. */
  get records(): number {
    return this.#records + this.#held / WORDS[this.#kind];
  }

  /** Adds whole records. */
  async add(records: Uint32Array): Promise<void> {
    for (let start = 0; start < records.length; ) {
      const part = records.subarray(start, start + this.#run.length - this.#held);
      this.#run.set(part, this.#held);
      this.#held += part.length;
      start += part.length;
      if (this.#held === this.#run.length) await this.#flush();
    }
  }

  /** Completes the file and gives it its name. */
  async finish(): Promise<void> {
    await this.#flush();
    const high = Math.floor(this.#records / 2 ** 32);
    const kind = KINDS.indexOf(this.#kind);
    const header = Uint32Array.of(...MAGIC, VERSION, kind, WORDS[this.#kind], this.#setting, this.#records, high);
    try {
      await this.#handle.write(bytesOf(header), 0, HEADER_BYTES, 0);
      await this.#handle.sync();
      await this.#handle.close();
      await rename(partialOf(this.#file), this.#file);
    } catch (error) {
      throw fileError(this.#file, error);
    }
  }

  /** Removes what was written. */
  async discard(): Promise<void> {
    await this.#handle.close().catch(() => {});
    await rm(partialOf(this.#file), { force: true });
  }

  async #flush(): Promise<void> {
    if (this.#held === 0) return;
    const held = this.#run.subarray(0, this.#held);
    try {
      if (hasBuckets(this.#kind)) {
        await this.#write(sortByBucket(held, WORDS[this.#kind], this.#sorted));
      }
      await this.#write(this.#sorted.subarray(0, this.#held));
    } catch (error) {
      throw fileError(this.#file, error);
    }
    this.#records += this.#held / WORDS[this.#kind];
    this.#held = 0;
  }

  async #write(words: Uint32Array): Promise<void> {
    const bytes = bytesOf(words);
    for (let start = 0; start < bytes.length; ) {
      start += (await this.#handle.write(bytes, start)).bytesWritten;
    }
  }
}

/** Writes a whole file of records; an aborted or failed one leaves nothing behind. */
export async function writeRecords(
  file: string,
  kind: RecordKind,
  blocks: AsyncIterable<Uint32Array>,
  signal?: AbortSignal,
): Promise<number> {
  const writer = await RecordWriter.create(file, kind);
  try {
    for await (const block of blocks) {
      signal?.throwIfAborted();
      await writer.add(block);
    }
    await writer.finish();
    return writer.records;
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** Reads a record file. */
export class RecordReader {
  readonly records: number;
  readonly #file: string;
  readonly #kind: RecordKind;
  readonly #handle: FileHandle;

  private constructor(file: string, kind: RecordKind, handle: FileHandle, records: number) {
    this.#file = file;
    this.#kind = kind;
    this.#handle = handle;
    this.records = records;
  }

  /**
   * Opens a file and checks its header against its kind, its setting and its length.
   * @throws DataError for a missing, foreign, truncated or overlong file, as all methods do for damage met later.
   */
  static async open(file: string, kind: RecordKind, setting = 0): Promise<RecordReader> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(file);
      const { size } = await handle.stat();
      if (size < HEADER_BYTES) {
        throw new DataError(`${file}: ${size} bytes, expected a header of ${HEADER_BYTES}`, { hint: HINT });
      }
      const header = new Uint32Array(HEADER_BYTES / 4);
      await handle.read(bytesOf(header), 0, HEADER_BYTES, 0);
      const records = checkHeader(file, header, kind, setting);
      const bytes = fileBytes(kind, records);
      if (size !== bytes) {
        const held = `its header says ${records} records`;
        throw new DataError(`${file}: ${size} bytes, expected ${bytes}, as ${held}`, { hint: HINT });
      }
      return new RecordReader(file, kind, handle, records);
    } catch (error) {
      await handle?.close();
      throw fileError(file, error);
    }
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  /** Adds to `counts` how many records of keys each bucket of a range has. */
  async countBuckets({ first, end }: BucketRange, counts: Float64Array): Promise<void> {
    for (let run = 0; run < this.#runs; run++) {
      const ends = await this.#bucketEnds(run, first, end);
      for (let index = 1; index < ends.length; index++) {
        counts[index - 1]! += (ends[index] as number) - (ends[index - 1] as number);
      }
    }
  }

  /** Records of keys in a range of buckets, a block for each run. */
  async *buckets({ first, end }: BucketRange): AsyncGenerator<Uint32Array> {
    for (let run = 0; run < this.#runs; run++) {
      const ends = await this.#bucketEnds(run, first, end);
      const [from, to] = [ends[0] as number, ends.at(-1) as number];
      const start = runStart(this.#kind as KeyKind, run) + TABLE_BYTES;
      if (to > from) yield this.#read(start + from * 4 * this.#words, (to - from) * this.#words);
    }
  }

  /** Records of a file without buckets, from `start` to `end`. */
  async *rows(start = 0, end = this.records): AsyncGenerator<Uint32Array> {
    for (let row = start; row < end; row += BLOCK_RECORDS) {
      yield this.row(row, Math.min(BLOCK_RECORDS, end - row));
    }
  }

  /** Some records of a file without buckets. */
  row(start: number, count = 1): Promise<Uint32Array> {
    return this.#read(HEADER_BYTES + start * 4 * this.#words, count * this.#words);
  }

  /** The first record whose task is not before `task`, in a file whose records start with a task and stand in order. */
  async firstOfTask(task: number): Promise<number> {
    let [low, high] = [0, this.records];
    while (low < high) {
      const middle = Math.floor((low + high) / 2);
      if (((await this.row(middle))[0] as number) < task) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  get #words(): number {
    return WORDS[this.#kind];
  }

  get #runs(): number {
    return Math.ceil(this.records / runRecordsOf(this.#kind));
  }

  /** Where, in records of a run, the bucket before `first` ends, and each up to `end`. */
  async #bucketEnds(run: number, first: number, end: number): Promise<Uint32Array> {
    const kind = this.#kind as KeyKind;
    const ends = new Uint32Array(end - first + 1);
    const skipped = first === 0 ? 1 : 0;
    const start = runStart(kind, run) + 4 * (first - 1 + skipped);
    ends.set(await this.#read(start, ends.length - skipped), skipped);
    const held = Math.min(runRecordsOf(kind), this.records - run * runRecordsOf(kind));
    if (ends.some((place, index) => place > held || place < (ends[index - 1] ?? 0))) {
      throw new DataError(`${this.#file}: the bucket table of run ${run} is damaged`, { hint: HINT });
    }
    return ends;
  }

  async #read(position: number, words: number): Promise<Uint32Array> {
    const result = new Uint32Array(words);
    const bytes = bytesOf(result);
    try {
      for (let start = 0; start < bytes.length; ) {
        const { bytesRead } = await this.#handle.read(bytes, start, bytes.length - start, position + start);
        if (bytesRead === 0) throw new DataError(`${this.#file}: ends at ${position + start} bytes`, { hint: HINT });
        start += bytesRead;
      }
    } catch (error) {
      throw fileError(this.#file, error);
    }
    return result;
  }
}

/** @returns the number of records. */
function checkHeader(file: string, header: Uint32Array, kind: RecordKind, setting: number): number {
  const [first, second, version, kindIndex, words, writtenSetting, low, high] = header as unknown as number[];
  const fault = (message: string, hint = HINT) => new DataError(`${file}: ${message}`, { hint });
  if (first !== MAGIC[0] || second !== MAGIC[1]) throw fault("is not a record file of deduplication");
  if (version !== VERSION) throw fault(`has version ${version}, expected ${VERSION}`);
  const written = KINDS[kindIndex as number];
  if (written !== kind) throw fault(`holds ${written ?? "unknown"} records, expected ${kind}`);
  if (words !== WORDS[kind]) throw fault(`has records of ${words} words, expected ${WORDS[kind]}`);
  if (writtenSetting !== setting) {
    throw fault(
      `was written with setting ${writtenSetting}, expected ${setting}`,
      "the options have changed: read again",
    );
  }
  return (high as number) * 2 ** 32 + (low as number);
}
