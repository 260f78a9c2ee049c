/**
 * Near-duplicates: documents that share a band of their MinHash signatures are compared, and those whose signatures agree in
 * enough bins are a pair. A group of documents with the same band keeps leaders: the first document, and each one that is
 * like none of those before it. Every document is compared with leaders alone, so the work does not grow with the square of
 * a group.
 */
import { type KeyTable, partitionTable } from "./keyTable.ts";
import { agree, agreeingBins, SIGNATURE_BYTES } from "./minhash.ts";
import { Rows } from "./places.ts";
import { inOrder, KEY_WORDS, RECORD_WORDS, type RecordBlock } from "./records.ts";

/** Leaders of one group; documents that are like none of so many are not compared with those that follow. */
export const MAX_LEADERS = 64;
const LEADERS_PER_CHUNK = 1024;

const WORDS = RECORD_WORDS.near;
const DOCUMENT = KEY_WORDS.near;
/** Word of a table's entry: 1 where the key comes more than once, then the number of its first leader plus 2. */
const STATE = KEY_WORDS.near;
const REPEATED = 1;
const FIRST_LEADER = 2;

/** What a partition reads. */
export interface NearSource {
  /** Records of kind "near", tasks in order. They are gone through twice. */
  blocks(): AsyncIterable<RecordBlock>;
  /** How many records there are. */
  readonly records: number;
  /** Signatures of documents of a task (numbers in rising order), one after another. */
  signatures(task: number, documents: Uint32Array): Promise<Uint8Array>;
}

/** The keys of a partition, each with whether it comes more than once. */
async function repeatedKeys({ blocks, records }: NearSource): Promise<KeyTable> {
  const table = partitionTable("near", 1, records);
  for await (const { records: block } of inOrder(blocks())) {
    for (let place = 0; place < block.length; place += WORDS) {
      const size = table.size;
      const entry = table.add(block, place);
      if (entry < size) table.set(entry, STATE, REPEATED);
    }
  }
  return table;
}

/** Signatures of the documents of a block that are to be compared. */
interface BlockSignatures {
  readonly documents: Uint32Array;
  readonly bytes: Uint8Array;
}

async function readSignatures(source: NearSource, table: KeyTable, block: RecordBlock): Promise<BlockSignatures> {
  const wanted = new Set<number>();
  for (let place = 0; place < block.records.length; place += WORDS) {
    if (table.get(table.find(block.records, place), STATE) > 0) wanted.add(block.records[place + DOCUMENT] as number);
  }
  const documents = Uint32Array.from(wanted).sort();
  return { documents, bytes: await source.signatures(block.task, documents) };
}

/** The signature of a document that is among them. */
function signatureFor({ documents, bytes }: BlockSignatures, document: number): Uint8Array {
  let [low, high] = [0, documents.length - 1];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((documents[middle] as number) < document) low = middle + 1;
    else high = middle;
  }
  return bytes.subarray(low * SIGNATURE_BYTES, (low + 1) * SIGNATURE_BYTES);
}

/** Leaders of all groups: chains from each group's first to its last. They lie in chunks, which grow without copies. */
class Leaders {
  /** Task, document and the number of the next leader; 0 for none, as number 0 is the first of its chain. */
  readonly #places: Uint32Array[] = [];
  readonly #signatures: Uint8Array[] = [];
  #count = 0;

  /** @returns the leader's number. */
  add(task: number, document: number, signature: Uint8Array): number {
    const index = this.#count % LEADERS_PER_CHUNK;
    if (index === 0) {
      this.#places.push(new Uint32Array(3 * LEADERS_PER_CHUNK));
      this.#signatures.push(new Uint8Array(SIGNATURE_BYTES * LEADERS_PER_CHUNK));
    }
    this.#places.at(-1)!.set([task, document, 0], 3 * index);
    this.#signatures.at(-1)!.set(signature, SIGNATURE_BYTES * index);
    return this.#count++;
  }

  /** Task, document and next leader. */
  place(leader: number): Uint32Array {
    const index = 3 * (leader % LEADERS_PER_CHUNK);
    return this.#places[Math.floor(leader / LEADERS_PER_CHUNK)]!.subarray(index, index + 3);
  }

  /** The oldest leader of a chain that is like the document; where there is none, the document joins the chain. */
  match(first: number, task: number, document: number, signature: Uint8Array, least: number): number | undefined {
    let leader = first;
    for (let length = 1; ; length++) {
      const chunk = this.#signatures[Math.floor(leader / LEADERS_PER_CHUNK)]!;
      if (agree(chunk, SIGNATURE_BYTES * (leader % LEADERS_PER_CHUNK), signature, least)) return leader;
      const place = this.place(leader);
      const next = place[2] as number;
      if (next === 0) {
        if (length < MAX_LEADERS) place[2] = this.add(task, document, signature);
        return undefined;
      }
      leader = next;
    }
  }
}

/**
 * Finds pairs of documents that are like each other among the records of a partition. Memory: 23 bytes for each key, and 140
 * for each leader of a key that comes more than once.
 *
 * @param threshold least estimated Jaccard similarity.
 * @yields pairs of a document and an earlier one, the later documents' tasks in order; some more than once.
 */
export async function* nearPairs(source: NearSource, threshold: number): AsyncGenerator<Uint32Array> {
  const table = await repeatedKeys(source);
  const least = agreeingBins(threshold);
  const leaders = new Leaders();
  for await (const block of source.blocks()) {
    const signatures = await readSignatures(source, table, block);
    const pairs = new Rows();
    for (let place = 0; place < block.records.length; place += WORDS) {
      const entry = table.find(block.records, place);
      const state = table.get(entry, STATE);
      if (state === 0) continue;
      const document = block.records[place + DOCUMENT] as number;
      const signature = signatureFor(signatures, document);
      if (state === REPEATED) {
        table.set(entry, STATE, FIRST_LEADER + leaders.add(block.task, document, signature));
        continue;
      }
      const leader = leaders.match(state - FIRST_LEADER, block.task, document, signature, least);
      if (leader === undefined) continue;
      const [task, earlier] = leaders.place(leader) as unknown as [number, number];
      pairs.push(block.task, document, task, earlier);
    }
    yield pairs.words;
  }
}
