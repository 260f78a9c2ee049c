/** Deduplication of texts in memory, step by step as over files, for tests. */
import type { DedupeOptions } from "../src/config/dataDedupe.ts";
import { exactCopies } from "../src/data/dedupe/exact.ts";
import { COPY_REASONS, COPY_WORDS, joinCopies } from "../src/data/dedupe/join.ts";
import { SIGNATURE_BYTES } from "../src/data/dedupe/minhash.ts";
import { nearPairs } from "../src/data/dedupe/near.ts";
import { repeatedParagraphs } from "../src/data/dedupe/paragraphs.ts";
import {
  type BucketRange,
  bucketOf,
  bucketRange,
  type KeyKind,
  keyRecords,
  RECORD_WORDS,
  type RecordBlock,
  sortByBucket,
  withoutDocuments,
} from "../src/data/dedupe/records.ts";
import { createSketcher } from "../src/data/dedupe/sketch.ts";
import { type RandomGenerator, uniform } from "../src/util/random.ts";

export const NOTHING: DedupeOptions = { exact: false, near: null, paragraphs: null };

export interface SketchedTask {
  readonly keys: Readonly<Record<KeyKind, Uint32Array>>;
  readonly signatures: Uint8Array;
}

function concat(kind: KeyKind, parts: readonly Uint32Array[]): Uint32Array {
  const all = new Uint32Array(parts.reduce((length, part) => length + part.length, 0));
  let place = 0;
  for (const part of parts) {
    all.set(part, place);
    place += part.length;
  }
  const sorted = new Uint32Array(all.length);
  sortByBucket(all, RECORD_WORDS[kind], sorted);
  return sorted;
}

/** Sketches the texts of each task. */
export async function sketchTasks(
  tasks: readonly (readonly string[])[],
  options: DedupeOptions,
): Promise<SketchedTask[]> {
  const sketch = await createSketcher(options);
  return tasks.map((texts) => {
    const parts = { exact: [] as Uint32Array[], near: [] as Uint32Array[], paragraphs: [] as Uint32Array[] };
    const signatures = new Uint8Array(texts.length * SIGNATURE_BYTES);
    for (const [document, text] of texts.entries()) {
      const { digest, bandKeys, signature, paragraphs } = sketch(text);
      parts.exact.push(keyRecords("exact", digest, document));
      parts.near.push(keyRecords("near", bandKeys, document));
      parts.paragraphs.push(keyRecords("paragraphs", paragraphs, document));
      signatures.set(signature, document * SIGNATURE_BYTES);
    }
    const keys = {
      exact: concat("exact", parts.exact),
      near: concat("near", parts.near),
      paragraphs: concat("paragraphs", parts.paragraphs),
    };
    return { keys, signatures };
  });
}

async function* blocksOf(
  tasks: readonly SketchedTask[],
  kind: KeyKind,
  range: BucketRange,
): AsyncGenerator<RecordBlock> {
  const words = RECORD_WORDS[kind];
  for (const [task, { keys }] of tasks.entries()) {
    const inRange: number[] = [];
    for (let place = 0; place < keys[kind].length; place += words) {
      const bucket = bucketOf(keys[kind][place] as number);
      if (bucket >= range.first && bucket < range.end) inRange.push(...keys[kind].subarray(place, place + words));
    }
    yield { task, records: Uint32Array.from(inRange) };
  }
}

async function collect(blocks: AsyncIterable<Uint32Array>): Promise<Uint32Array[]> {
  const all: Uint32Array[] = [];
  for await (const block of blocks) all.push(block);
  return all;
}

function rows(blocks: readonly Uint32Array[], words: number): number[][] {
  const all = blocks.flatMap((block) => [...block]);
  return Array.from({ length: all.length / words }, (_, row) => all.slice(row * words, (row + 1) * words));
}

export interface Duplicates {
  /** "task/document reason task/document", in order. */
  readonly copies: readonly string[];
  /** "task/document/paragraph", in order of text. */
  readonly cuts: readonly string[];
}

/** Runs all steps with so many partitions of each kind. */
export async function findDuplicates(
  tasks: readonly SketchedTask[],
  options: DedupeOptions,
  partitions: number,
): Promise<Duplicates> {
  const exact: Uint32Array[][] = [];
  const near: Uint32Array[][] = [];
  const ranges = Array.from({ length: partitions }, (_, partition) => bucketRange({ partition, partitions }));
  for (const range of ranges) {
    exact.push(await collect(exactCopies(blocksOf(tasks, "exact", range), 16)));
    if (options.near === null) continue;
    const signatures = async (task: number, documents: Uint32Array) => {
      const found = [...documents].map((document) =>
        tasks[task]!.signatures.subarray(document * SIGNATURE_BYTES, (document + 1) * SIGNATURE_BYTES),
      );
      return Uint8Array.from(found.flatMap((signature) => [...signature]));
    };
    const source = { blocks: () => blocksOf(tasks, "near", range), records: 16, signatures };
    near.push(await collect(nearPairs(source, options.near.threshold)));
  }
  const copies = rows(await collect(joinCopies(exact, near, tasks.length)), COPY_WORDS);
  const dropped = async (task: number) =>
    new Set(copies.filter(([copyTask]) => copyTask === task).map(([, document]) => document as number));
  const cuts: number[][] = [];
  for (const range of options.paragraphs === null ? [] : ranges) {
    const counts = new Float64Array(range.end - range.first);
    for await (const { records } of blocksOf(tasks, "paragraphs", range)) {
      for (let place = 0; place < records.length; place += RECORD_WORDS.paragraphs) {
        counts[bucketOf(records[place] as number) - range.first]!++;
      }
    }
    const blocks = withoutDocuments(blocksOf(tasks, "paragraphs", range), "paragraphs", dropped);
    const source = { blocks, firstBucket: range.first, counts };
    cuts.push(...rows(await collect(repeatedParagraphs(source, options.paragraphs!.errorRate)), 3));
  }
  return {
    copies: copies.map(
      ([task, document, keptTask, kept, reason]) =>
        `${task}/${document} ${COPY_REASONS[reason as number]} ${keptTask}/${kept}`,
    ),
    cuts: cuts.sort((a, b) => a[0]! - b[0]! || a[1]! - b[1]! || a[2]! - b[2]!).map((place) => place.join("/")),
  };
}

/** Sketches and runs all steps. */
export async function deduplicate(
  texts: readonly (readonly string[])[],
  options: Partial<DedupeOptions>,
  partitions = 1,
): Promise<Duplicates> {
  const all = { ...NOTHING, ...options };
  return findDuplicates(await sketchTasks(texts, all), all, partitions);
}

/** So many words of a vocabulary that is too large for one to come twice by chance. */
export function randomWords(random: RandomGenerator, count: number): string[] {
  return Array.from({ length: count }, () => `w${Math.floor(uniform(random) * 2 ** 40).toString(36)}`);
}
