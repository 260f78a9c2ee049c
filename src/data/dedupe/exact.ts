/** Exact deduplication: documents whose text, in UTF-8, has the 128-bit digest of an earlier one. */
import { partitionTable } from "./keyTable.ts";
import { Rows } from "./places.ts";
import { inOrder, KEY_WORDS, RECORD_WORDS, type RecordBlock } from "./records.ts";

const DOCUMENT = KEY_WORDS.exact;
const [TASK_VALUE, DOCUMENT_VALUE] = [KEY_WORDS.exact, KEY_WORDS.exact + 1];

/**
 * Finds all later copies among the records of a partition. Memory: 35 bytes for each text that is not a copy.
 *
 * @param blocks records of kind "exact", tasks in order.
 * @param records how many they are.
 * @yields pairs of a copy and the first document with its text, the copies' tasks in order.
 */
export async function* exactCopies(blocks: AsyncIterable<RecordBlock>, records: number): AsyncGenerator<Uint32Array> {
  const table = partitionTable("exact", 2, records);
  for await (const { task, records: block } of inOrder(blocks)) {
    const pairs = new Rows();
    for (let place = 0; place < block.length; place += RECORD_WORDS.exact) {
      const document = block[place + DOCUMENT] as number;
      const size = table.size;
      const entry = table.add(block, place);
      if (entry < size) pairs.push(task, document, table.get(entry, TASK_VALUE), table.get(entry, DOCUMENT_VALUE));
      else {
        table.set(entry, TASK_VALUE, task);
        table.set(entry, DOCUMENT_VALUE, document);
      }
    }
    yield pairs.words;
  }
}
