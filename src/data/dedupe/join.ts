/** Brings together what the partitions found: which documents are copies, each once, in order. */
import { Clusters } from "./clusters.ts";
import { PAIR_WORDS } from "./places.ts";

/** Words of a copy: task and document of it, task and document of the earlier one, and index of the reason. */
export const COPY_WORDS = 5;

/** Why a document is a copy. One that is both is an exact copy. */
export const COPY_REASONS = ["exact", "near"] as const;

type Blocks = AsyncIterable<Uint32Array> | Iterable<Uint32Array>;

/** Pairs that stand in order of their tasks, task by task. */
class TaskPairs {
  readonly #blocks: AsyncIterator<Uint32Array> | Iterator<Uint32Array>;
  #block: Uint32Array = new Uint32Array(0);
  #place = 0;

  constructor(blocks: Blocks) {
    this.#blocks = Symbol.asyncIterator in blocks ? blocks[Symbol.asyncIterator]() : blocks[Symbol.iterator]();
  }

  /** Visits the pairs of a task; tasks are asked for one after another. */
  async visit(
    task: number,
    visitor: (document: number, keptTask: number, keptDocument: number) => void,
  ): Promise<void> {
    for (;;) {
      const block = this.#block;
      for (; this.#place < block.length; this.#place += PAIR_WORDS) {
        if ((block[this.#place] as number) > task) return;
        const [document, keptTask, kept] = block.subarray(this.#place + 1, this.#place + PAIR_WORDS);
        visitor(document as number, keptTask as number, kept as number);
      }
      const next = await this.#blocks.next();
      if (next.done === true) return;
      this.#block = next.value;
      this.#place = 0;
    }
  }

  /** Ends reading, also where tasks are left. */
  async close(): Promise<void> {
    await this.#blocks.return?.();
  }
}

/**
 * Joins the pairs of all partitions. Which documents are kept does not depend on how many partitions there are.
 * Memory: 31 bytes for each document that is in a near pair, and the copies of one task.
 *
 * @param exact of each partition, what `exactCopies` yielded.
 * @param near of each partition, what `nearPairs` yielded.
 * @param tasks how many tasks there are.
 * @yields for each task its copies in order, as rows of `COPY_WORDS`. The earlier document of an exact copy is the first
 *   with its text, and that of a near copy the first of its cluster.
 */
export async function* joinCopies(
  exact: readonly Blocks[],
  near: readonly Blocks[],
  tasks: number,
): AsyncGenerator<Uint32Array> {
  const clusters = new Clusters();
  for (const blocks of near) for await (const block of blocks) clusters.add(block);
  const sources = [
    ...exact.map((blocks) => ({ pairs: new TaskPairs(blocks), reason: 0 })),
    { pairs: new TaskPairs(clusters.copies()), reason: 1 },
  ];
  try {
    for (let task = 0; task < tasks; task++) {
      const copies = new Map<number, number[]>();
      for (const { pairs, reason } of sources) {
        await pairs.visit(task, (document, keptTask, kept) => {
          if (!copies.has(document)) copies.set(document, [task, document, keptTask, kept, reason]);
        });
      }
      const documents = [...copies.keys()].sort((a, b) => a - b);
      yield Uint32Array.from(documents.flatMap((document) => copies.get(document) as number[]));
    }
  } finally {
    for (const { pairs } of sources) await pairs.close();
  }
}
