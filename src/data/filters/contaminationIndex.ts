/**
 * N-grams of evaluation texts as 64-bit hashes in typed arrays: 60 to 110 bytes for each n-gram. Words are compared in lower
 * case and without punctuation, as GPT-3's study does (Brown et al. 2020, arXiv 2005.14165, appendix C).
 */
import { spread } from "./hash.ts";
import { Scratch } from "./scratch.ts";
import { findTextFacts, NO_HASH, type TextFacts } from "./textFacts.ts";

/** Odd, so that no bits are lost where hashes are multiplied by them. */
const BASE_LOW = 0x2c1b3c6d | 1;
const BASE_HIGH = 0x297a2d39 | 1;
/** An n-gram of more items than this is no sign of one of them, such as an instruction; it counts for the first ones. */
const MAX_ITEMS_OF_NGRAM = 64;

const arrays = {
  words: new Scratch(),
  hashes: new Scratch(),
  low: new Scratch(),
  high: new Scratch(),
};

/** N-grams of a text, one for each place where one starts: both halves of its hash. Arrays have more places than are used. */
interface Ngrams {
  readonly count: number;
  readonly low: Int32Array;
  readonly high: Int32Array;
  /** Words of the text that are not punctuation only: the n-gram at i is made of i to i + n - 1. */
  readonly words: Int32Array;
}

function power(base: number, exponent: number): number {
  let result = 1;
  for (let index = 0; index < exponent; index++) result = Math.imul(result, base);
  return result;
}

/** Rolling hashes: each is a polynomial in the hashes of n words. */
function ngramsOf({ words: all, normalHashes }: TextFacts, n: number): Ngrams {
  const [words, hashes] = [arrays.words.take(all), arrays.hashes.take(all)];
  const [low, high] = [arrays.low.take(all), arrays.high.take(all)];
  const [baseLow, baseHigh] = [BASE_LOW, BASE_HIGH];
  const [dropLow, dropHigh] = [power(baseLow, n), power(baseHigh, n)];
  let [count, a, b] = [0, 0, 0];
  for (let word = 0; word < all; word++) {
    const hash = normalHashes[word] as number;
    if (hash === NO_HASH) continue;
    const gone = count < n ? 0 : (hashes[count - n] as number);
    a = (Math.imul(a, baseLow) + hash - Math.imul(gone, dropLow)) | 0;
    b = (Math.imul(b, baseHigh) + hash - Math.imul(gone, dropHigh)) | 0;
    words[count] = word;
    hashes[count++] = hash;
    if (count < n) continue;
    low[count - n] = a;
    high[count - n] = b;
  }
  return { count: Math.max(0, count - n + 1), low, high, words };
}

export interface Overlap {
  /** Share of the document's n-grams that some evaluation item has. */
  readonly document: number;
  /** Largest share of one item's n-grams that the document has. */
  readonly item: number;
  /** Places of the text, as UTF-16 units, that such n-grams cover; in order, none overlapping. */
  readonly places: readonly (readonly [start: number, end: number])[];
}

/** Built once, then read by all documents. */
export class ContaminationIndex {
  readonly n: number;
  /** Of each item: its different n-grams. */
  readonly #sizes: number[] = [];
  /** Open addressing; a place is free where `#heads` is 0. */
  #low = new Int32Array(32);
  #high = new Int32Array(32);
  /** One more than the n-gram's first posting. */
  #heads = new Int32Array(32);
  /**
   * Two bits of one number for each n-gram, four bits for each place: a document has few n-grams of which both are set, and
   * this fits into a cache.
   */
  #known = new Int32Array(4);
  #ngrams = 0;
  /** Postings: the item, and one more than the next posting of the same n-gram. */
  #items = new Int32Array(32);
  #next = new Int32Array(32);
  #postings = 0;

  /** @param n words of an n-gram. */
  constructor(n: number) {
    this.n = n;
  }

  /** Evaluation texts that were added, those without an n-gram included. */
  get items(): number {
    return this.#sizes.length;
  }

  /** Different n-grams of all of them. */
  get ngrams(): number {
    return this.#ngrams;
  }

  /** Adds an evaluation text as one item. */
  add(text: string): void {
    const { count, low, high } = ngramsOf(findTextFacts(text), this.n);
    const item = this.#sizes.push(0) - 1;
    for (let index = 0; index < count; index++) this.#post(low[index] as number, high[index] as number, item);
  }

  /** What a text has in common with the items. */
  overlap(facts: TextFacts): Overlap {
    const { count, low, high, words } = ngramsOf(facts, this.n);
    const seen = new Set<number>();
    const places: [number, number][] = [];
    const known = this.#known;
    const shift = Math.clz32(known.length) + 1;
    let matched = 0;
    for (let index = 0; index < count; index++) {
      const bits = (1 << low[index]!) | (1 << high[index]!);
      if ((known[spread(low[index]!, shift)]! & bits) !== bits) continue;
      const slot = this.#slot(low[index] as number, high[index] as number);
      if (this.#heads[slot] === 0) continue;
      matched += 1;
      seen.add(slot);
      const start = facts.starts[words[index]!] as number;
      const end = facts.ends[words[index + this.n - 1]!] as number;
      const last = places.at(-1);
      if (last !== undefined && start <= last[1]) last[1] = end;
      else places.push([start, end]);
    }
    return { document: matched / Math.max(1, count), item: this.#largestShare(seen), places };
  }

  /** Of the items that have n-grams of these slots, the largest share. */
  #largestShare(slots: ReadonlySet<number>): number {
    const found = new Map<number, number>();
    let largest = 0;
    for (const slot of slots) {
      for (let posting = this.#heads[slot]! - 1; posting >= 0; posting = this.#next[posting]! - 1) {
        const item = this.#items[posting] as number;
        const count = (found.get(item) ?? 0) + 1;
        found.set(item, count);
        largest = Math.max(largest, count / (this.#sizes[item] as number));
      }
    }
    return largest;
  }

  #take(slot: number, low: number, high: number, head: number): void {
    this.#low[slot] = low;
    this.#high[slot] = high;
    this.#heads[slot] = head;
    this.#known[spread(low, Math.clz32(this.#known.length) + 1)]! |= (1 << low) | (1 << high);
  }

  /** Where an n-gram is, or would go. */
  #slot(low: number, high: number): number {
    const mask = this.#heads.length - 1;
    let slot = spread(low, Math.clz32(mask));
    while (this.#heads[slot] !== 0 && (this.#low[slot] !== low || this.#high[slot] !== high)) slot = (slot + 1) & mask;
    return slot;
  }

  #post(low: number, high: number, item: number): void {
    if (4 * (this.#ngrams + 1) > this.#heads.length) this.#grow();
    const slot = this.#slot(low, high);
    const head = this.#heads[slot] as number;
    if (head === 0) this.#ngrams += 1;
    else if (this.#items[head - 1] === item || this.#postingsFrom(head) >= MAX_ITEMS_OF_NGRAM) return;
    if (this.#postings === this.#items.length) {
      [this.#items, this.#next] = [doubled(this.#items), doubled(this.#next)];
    }
    this.#items[this.#postings] = item;
    this.#next[this.#postings] = head;
    this.#take(slot, low, high, ++this.#postings);
    this.#sizes[item]! += 1;
  }

  #postingsFrom(head: number): number {
    let count = 0;
    for (let posting = head - 1; posting >= 0; posting = this.#next[posting]! - 1) count += 1;
    return count;
  }

  #grow(): void {
    const [low, high, heads] = [this.#low, this.#high, this.#heads];
    const size = 2 * heads.length;
    [this.#low, this.#high, this.#heads] = [new Int32Array(size), new Int32Array(size), new Int32Array(size)];
    this.#known = new Int32Array(size >>> 3);
    for (let old = 0; old < heads.length; old++) {
      if (heads[old] === 0) continue;
      const [a, b] = [low[old] as number, high[old] as number];
      this.#take(this.#slot(a, b), a, b, heads[old] as number);
    }
  }
}

function doubled(array: Int32Array<ArrayBuffer>): Int32Array<ArrayBuffer> {
  const larger = new Int32Array(2 * array.length);
  larger.set(array);
  return larger;
}
