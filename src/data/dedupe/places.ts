/** Documents and paragraphs that deduplication points at, as rows of 32-bit words. */
import { KeyTable } from "./keyTable.ts";
import { BYTES_PER_RECORD, KEY_WORDS, type KeyKind, PARTITION_BYTES, type RecordBlock } from "./records.ts";

/** Words of a pair: task and document of the later one, then of the earlier one. */
export const PAIR_WORDS = 4;

/** Words of a cut: task, document and paragraph. */
export const CUT_WORDS = 3;

/** Rows of equal length that are collected into one array. */
export class Rows {
  #words = new Uint32Array(256);
  #length = 0;

  push(...row: number[]): void {
    if (this.#length + row.length > this.#words.length) {
      const longer = new Uint32Array(2 * this.#words.length);
      longer.set(this.#words);
      this.#words = longer;
    }
    for (const word of row) this.#words[this.#length++] = word;
  }

  get words(): Uint32Array {
    return this.#words.subarray(0, this.#length);
  }
}

/** A table for the keys of a partition: no larger at the start than the budget, as a corpus of copies needs far less. */
export function partitionTable(kind: KeyKind, valueWords: number, records: number): KeyTable {
  const budget = Math.floor(PARTITION_BYTES / BYTES_PER_RECORD[kind]);
  return new KeyTable(KEY_WORDS[kind], valueWords, Math.min(records, budget));
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
