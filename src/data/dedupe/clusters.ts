/** Clusters of near-duplicates: what pairs connect, through any number of documents, is one cluster (union-find). */
import { KeyTable } from "./keyTable.ts";
import { PAIR_WORDS } from "./places.ts";

/** Word of a table's entry: the entry that leads on to the cluster's first document, plus one; 0 at that document itself. */
const PARENT = 2;
const BLOCK_PAIRS = 16_384;

export class Clusters {
  /** Entries are the documents of pairs: task and document. */
  readonly #table = new KeyTable(2, 1, 1024);

  /** Adds pairs, in any order. Memory: 12 bytes for each document that is in a pair, and up to 10.7 of slots. */
  add(pairs: Uint32Array): void {
    for (let place = 0; place < pairs.length; place += PAIR_WORDS) {
      const a = this.#first(this.#table.add(pairs, place));
      const b = this.#first(this.#table.add(pairs, place + 2));
      if (a === b) continue;
      const [first, later] = this.#isBefore(a, b) ? [a, b] : [b, a];
      this.#table.set(later, PARENT, first + 1);
    }
  }

  /**
   * Pairs of each document that is not the first of its cluster and the one that is, in order of the documents. The order
   * takes another 8 bytes for each document.
   */
  *copies(): Generator<Uint32Array> {
    const order = Float64Array.from({ length: this.#table.size }, (_, entry) => this.#orderOf(entry)).sort();
    const key = new Uint32Array(2);
    for (let start = 0; start < order.length; start += BLOCK_PAIRS) {
      const pairs: number[] = [];
      for (const place of order.subarray(start, start + BLOCK_PAIRS)) {
        key[0] = Math.floor(place / 2 ** 32);
        key[1] = place % 2 ** 32;
        const entry = this.#table.find(key, 0);
        const first = this.#first(entry);
        if (first !== entry) {
          pairs.push(key[0], key[1], this.#table.get(first, 0), this.#table.get(first, 1));
        }
      }
      yield Uint32Array.from(pairs);
    }
  }

  /** The first document of an entry's cluster; the way there becomes shorter (path halving). */
  #first(start: number): number {
    let entry = start;
    for (;;) {
      const parent = this.#table.get(entry, PARENT);
      if (parent === 0) return entry;
      const beyond = this.#table.get(parent - 1, PARENT);
      if (beyond === 0) return parent - 1;
      this.#table.set(entry, PARENT, beyond);
      entry = beyond - 1;
    }
  }

  #isBefore(a: number, b: number): boolean {
    return this.#orderOf(a) < this.#orderOf(b);
  }

  /** A number that is less for an earlier document; exact below 2^21 tasks. */
  #orderOf(entry: number): number {
    return this.#table.get(entry, 0) * 2 ** 32 + this.#table.get(entry, 1);
  }
}
