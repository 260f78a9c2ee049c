/**
 * Records that read tasks leave for deduplication. Each starts with a key, a hash of what may be a duplicate, and ends in
 * where it stands. Records are cut into buckets by the leading bits of their keys; a partition is a range of buckets, so it
 * has all records of a key. Tasks are numbered in the order of the documents: by source in the recipe, then by read task.
 */

/** Kinds of keys: digests of documents, bands of signatures, hashes of paragraphs. */
export type KeyKind = "exact" | "near" | "paragraphs";

/** Words of 32 bits in a record: the key, the document, and of paragraphs the paragraph. */
export const RECORD_WORDS = { exact: 5, near: 3, paragraphs: 4 } as const satisfies Record<KeyKind, number>;

/** Words of the key. */
export const KEY_WORDS = { exact: 4, near: 2, paragraphs: 2 } as const satisfies Record<KeyKind, number>;

/** Buckets of every record file. */
export const BUCKETS = 4096;

/** Bytes that the tables of one partition may take. */
export const PARTITION_BYTES = 64 * 2 ** 20;

/**
 * Bytes that a partition takes for each record, at most. exact: 24 of a table's entry and up to 10.7 of its slots. near: 12
 * and 10.7, and 140 of a signature, which are needed only where keys meet. paragraphs: 20 bits at an error rate of 1e-4,
 * 44 at the least that options allow.
 */
export const BYTES_PER_RECORD: Readonly<Record<KeyKind, number>> = { exact: 35, near: 163, paragraphs: 6 };

/** How many partitions a corpus with so many records is cut into; there are no more than buckets. */
export function partitionsFor(kind: KeyKind, records: number): number {
  return Math.min(BUCKETS, Math.max(1, Math.ceil((records * BYTES_PER_RECORD[kind]) / PARTITION_BYTES)));
}

export function bucketOf(firstKeyWord: number): number {
  return firstKeyWord >>> 20;
}

export interface Partition {
  /** From 0. */
  readonly partition: number;
  readonly partitions: number;
}

/** Buckets from `first` to `end`, exclusive. */
export interface BucketRange {
  readonly first: number;
  readonly end: number;
}

export function bucketRange({ partition, partitions }: Partition): BucketRange {
  const start = (index: number) => Math.floor((index * BUCKETS) / partitions);
  return { first: start(partition), end: start(partition + 1) };
}

/** Some records of one task. Records of the same key stand in the order of documents (and paragraphs). */
export interface RecordBlock {
  readonly task: number;
  /** Whole records, one after another. */
  readonly records: Uint32Array;
}

/**
 * Records of one document.
 * @param keys as in its sketch: keys one after another, of paragraphs each with which one it is.
 */
export function keyRecords(kind: KeyKind, keys: Uint32Array, document: number): Uint32Array {
  const words = RECORD_WORDS[kind];
  const records = new Uint32Array((keys.length / (words - 1)) * words);
  for (let place = 0, next = 0; place < records.length; place += words) {
    for (let word = 0; word < words; word++) {
      records[place + word] = word === KEY_WORDS[kind] ? document : (keys[next++] as number);
    }
  }
  return records;
}

/** Orders records by bucket and keeps their order within one. @returns where each bucket ends, in records. */
export function sortByBucket(records: Uint32Array, words: number, sorted: Uint32Array): Uint32Array {
  const next = new Uint32Array(BUCKETS);
  for (let place = 0; place < records.length; place += words) next[bucketOf(records[place] as number)]!++;
  let start = 0;
  for (let bucket = 0; bucket < BUCKETS; bucket++) {
    const count = next[bucket] as number;
    next[bucket] = start;
    start += count;
  }
  for (let place = 0; place < records.length; place += words) {
    let target = words * next[bucketOf(records[place] as number)]!++;
    for (let word = place; word < place + words; word++) sorted[target++] = records[word] as number;
  }
  return next;
}

/** Passes blocks on whose tasks stand in order, as all decisions rely on. */
export async function* inOrder(blocks: AsyncIterable<RecordBlock>): AsyncGenerator<RecordBlock> {
  let last = 0;
  for await (const block of blocks) {
    if (block.task < last) throw new Error(`internal: records of task ${block.task} come after those of task ${last}`);
    last = block.task;
    yield block;
  }
}

/** Blocks without the records of some documents, such as those that an earlier step drops. What stays moves up in place. */
export async function* withoutDocuments(
  blocks: AsyncIterable<RecordBlock>,
  kind: KeyKind,
  dropped: (task: number) => Promise<ReadonlySet<number>>,
): AsyncGenerator<RecordBlock> {
  const words = RECORD_WORDS[kind];
  let last: { readonly task: number; readonly documents: ReadonlySet<number> } | undefined;
  for await (const { task, records } of blocks) {
    if (last?.task !== task) last = { task, documents: await dropped(task) };
    const { documents } = last;
    let end = 0;
    for (let place = 0; place < records.length; place += words) {
      if (documents.has(records[place + KEY_WORDS[kind]] as number)) continue;
      records.copyWithin(end, place, place + words);
      end += words;
    }
    yield { task, records: records.subarray(0, end) };
  }
}
