/**
 * The steps of deduplication over files. For each kind of key there are partitions, which run in any order and side by side;
 * a partition writes one file. Copies of documents are joined into one file before paragraphs are looked at, as a paragraph
 * of a document that is dropped must not cut the same paragraph of one that stays.
 */
import type { DedupeOptions } from "../../config/dataDedupe.ts";
import { exactCopies } from "./exact.ts";
import { COPY_REASONS, COPY_WORDS, joinCopies } from "./join.ts";
import { SIGNATURE_BYTES } from "./minhash.ts";
import { nearPairs } from "./near.ts";
import { repeatedParagraphs } from "./paragraphs.ts";
import { CUT_WORDS } from "./places.ts";
import { RecordReader, writeRecords } from "./recordFile.io.ts";
import {
  type BucketRange,
  bucketRange,
  type KeyKind,
  type Partition,
  partitionsFor,
  type RecordBlock,
  withoutDocuments,
} from "./records.ts";
import { recordPath, settingOf } from "./sketchFiles.io.ts";

/** All that was read. */
export interface SketchedCorpus {
  /** The base path of each read task's record files, in order of the documents. */
  readonly tasks: readonly string[];
  readonly options: DedupeOptions;
  readonly signal?: AbortSignal | undefined;
}

/** The options of a step, which is run only where they are there. */
function asked<K extends "near" | "paragraphs">(options: DedupeOptions, kind: K): NonNullable<DedupeOptions[K]> {
  const own = options[kind];
  if (own === null) throw new Error(`internal: a step of ${kind} runs, which the options leave out`);
  return own;
}

/** Opens a file, uses it and closes it. */
async function withReader<T>(opened: Promise<RecordReader>, use: (reader: RecordReader) => Promise<T>): Promise<T> {
  const reader = await opened;
  try {
    return await use(reader);
  } finally {
    await reader.close();
  }
}

function openKeys({ tasks, options }: SketchedCorpus, task: number, kind: KeyKind): Promise<RecordReader> {
  return RecordReader.open(recordPath(tasks[task] as string, kind), kind, settingOf(kind, options));
}

/** How many partitions a kind has, by the number of its records. */
export async function countPartitions(corpus: SketchedCorpus, kind: KeyKind): Promise<number> {
  let records = 0;
  for (const task of corpus.tasks.keys()) {
    records += await withReader(openKeys(corpus, task, kind), async (reader) => reader.records);
  }
  return partitionsFor(kind, records);
}

/** How many records each bucket of a range has. */
async function bucketCounts(corpus: SketchedCorpus, kind: KeyKind, range: BucketRange): Promise<Float64Array> {
  const counts = new Float64Array(range.end - range.first);
  for (const task of corpus.tasks.keys()) {
    await withReader(openKeys(corpus, task, kind), (reader) => reader.countBuckets(range, counts));
  }
  return counts;
}

async function* bucketRecords(corpus: SketchedCorpus, kind: KeyKind, range: BucketRange): AsyncGenerator<RecordBlock> {
  for (const task of corpus.tasks.keys()) {
    const reader = await openKeys(corpus, task, kind);
    try {
      for await (const records of reader.buckets(range)) {
        corpus.signal?.throwIfAborted();
        yield { task, records };
      }
    } finally {
      await reader.close();
    }
  }
}

function sum(counts: Float64Array): number {
  return counts.reduce((total, count) => total + count, 0);
}

/** Writes the exact copies of one partition. @returns how many there are. */
export async function writeExactCopies(corpus: SketchedCorpus, partition: Partition, file: string): Promise<number> {
  const range = bucketRange(partition);
  const records = sum(await bucketCounts(corpus, "exact", range));
  const pairs = exactCopies(bucketRecords(corpus, "exact", range), records);
  return writeRecords(file, "pairs", pairs, corpus.signal);
}

/** Signatures from the first to the last that are read at once: 64 KiB take little longer than one of them. */
const SIGNATURES_AT_ONCE = 512;

async function readSignatures(base: string, documents: Uint32Array): Promise<Uint8Array> {
  const found = new Uint8Array(documents.length * SIGNATURE_BYTES);
  if (documents.length === 0) return found;
  await withReader(RecordReader.open(recordPath(base, "signatures"), "signatures"), async (reader) => {
    for (let index = 0; index < documents.length; ) {
      const start = documents[index] as number;
      let end = index + 1;
      while (end < documents.length && (documents[end] as number) < start + SIGNATURES_AT_ONCE) end++;
      const rows = await reader.row(start, (documents[end - 1] as number) - start + 1);
      const bytes = new Uint8Array(rows.buffer);
      for (; index < end; index++) {
        const place = ((documents[index] as number) - start) * SIGNATURE_BYTES;
        found.set(bytes.subarray(place, place + SIGNATURE_BYTES), index * SIGNATURE_BYTES);
      }
    }
  });
  return found;
}

/** Writes the near-duplicate pairs of one partition. @returns how many there are. */
export async function writeNearPairs(corpus: SketchedCorpus, partition: Partition, file: string): Promise<number> {
  const range = bucketRange(partition);
  const source = {
    blocks: () => bucketRecords(corpus, "near", range),
    records: sum(await bucketCounts(corpus, "near", range)),
    signatures: (task: number, documents: Uint32Array) => readSignatures(corpus.tasks[task] as string, documents),
  };
  const { threshold } = asked(corpus.options, "near");
  return writeRecords(file, "pairs", nearPairs(source, threshold), corpus.signal);
}

/** Writes which documents are copies. @returns how many there are. */
export async function writeCopies(
  { tasks, signal }: SketchedCorpus,
  pairs: { readonly exact: readonly string[]; readonly near: readonly string[] },
  file: string,
): Promise<number> {
  const opened = async function* (path: string) {
    const reader = await RecordReader.open(path, "pairs");
    try {
      for await (const block of reader.rows()) {
        signal?.throwIfAborted();
        yield block;
      }
    } finally {
      await reader.close();
    }
  };
  const copies = joinCopies(pairs.exact.map(opened), pairs.near.map(opened), tasks.length);
  return writeRecords(file, "copies", copies, signal);
}

/** The rows of one task in a file that is in order of tasks. */
async function rowsOfTask(file: string, kind: "copies" | "cuts", task: number): Promise<Uint32Array[]> {
  return withReader(RecordReader.open(file, kind), async (reader) => {
    const start = await reader.firstOfTask(task);
    const blocks: Uint32Array[] = [];
    for await (const block of reader.rows(start, await reader.firstOfTask(task + 1))) blocks.push(block);
    return blocks;
  });
}

/** Calls `visit` with each row. */
function eachRow(blocks: readonly Uint32Array[], words: number, visit: (row: Uint32Array) => void): void {
  for (const block of blocks) {
    for (let place = 0; place < block.length; place += words) visit(block.subarray(place, place + words));
  }
}

/** A document that is dropped, and for whose sake. */
export interface Copy {
  readonly reason: (typeof COPY_REASONS)[number];
  /** Read task and index of the earlier document. */
  readonly original: { readonly task: number; readonly document: number };
}

/** The copies among a task's documents, by their index, in order. */
export async function readCopies(file: string, task: number): Promise<Map<number, Copy>> {
  const copies = new Map<number, Copy>();
  eachRow(await rowsOfTask(file, "copies", task), COPY_WORDS, ([, document, keptTask, kept, reason]) => {
    copies.set(document as number, {
      reason: COPY_REASONS[reason as 0 | 1],
      original: { task: keptTask as number, document: kept as number },
    });
  });
  return copies;
}

/** Writes the repeated paragraphs of one partition; those of `copies` count for nothing. @returns how many there are. */
export async function writeRepeatedParagraphs(
  corpus: SketchedCorpus,
  partition: Partition,
  copies: string | undefined,
  file: string,
): Promise<number> {
  const range = bucketRange(partition);
  const records = bucketRecords(corpus, "paragraphs", range);
  const dropped = async (task: number) => new Set(copies === undefined ? [] : (await readCopies(copies, task)).keys());
  const source = {
    blocks: withoutDocuments(records, "paragraphs", dropped),
    firstBucket: range.first,
    counts: await bucketCounts(corpus, "paragraphs", range),
  };
  const { errorRate } = asked(corpus.options, "paragraphs");
  return writeRecords(file, "cuts", repeatedParagraphs(source, errorRate), corpus.signal);
}

/** The paragraphs to cut in a task's documents, by document. */
export async function readCuts(files: readonly string[], task: number): Promise<Map<number, Set<number>>> {
  const cuts = new Map<number, Set<number>>();
  for (const file of files) {
    eachRow(await rowsOfTask(file, "cuts", task), CUT_WORDS, ([, document, paragraph]) => {
      const paragraphs = cuts.get(document as number) ?? new Set();
      cuts.set(document as number, paragraphs.add(paragraph as number));
    });
  }
  return cuts;
}
