/**
 * A hash table from keys of a few 32-bit words to a few words each, in two typed arrays: a Map would take several times the
 * memory and ends at 2^24 entries.
 */
import { mix32 } from "../../util/mix32.ts";
import { BYTES_PER_RECORD, KEY_WORDS, type KeyKind, PARTITION_BYTES } from "./records.ts";

/** Entries for each slot, at most. */
const MAX_LOAD = 0.75;

function slotsFor(capacity: number): Uint32Array {
  return new Uint32Array(2 ** Math.ceil(Math.log2(capacity / MAX_LOAD + 1)));
}

export class KeyTable {
  readonly #keyWords: number;
  readonly #entryWords: number;
  #entries: Uint32Array;
  /** Number of the entry plus one; 0 where there is none. */
  #slots: Uint32Array;
  #size = 0;

  /** @param expected entries to have room for; the table grows beyond. */
  constructor(keyWords: number, valueWords: number, expected: number) {
    const capacity = Math.max(16, expected);
    this.#keyWords = keyWords;
    this.#entryWords = keyWords + valueWords;
    this.#entries = new Uint32Array(capacity * this.#entryWords);
    this.#slots = slotsFor(capacity);
  }

  /** Number of entries. */
  get size(): number {
    return this.#size;
  }

  /** The number of the entry whose key stands at `place` of `keys`, or -1. Entries are numbered as they were added. */
  find(keys: Uint32Array, place: number): number {
    return (this.#slots[this.#slotOf(keys, place)] as number) - 1;
  }

  /** The same, adding an entry with values of 0 where there is none; its number is then the size before. */
  add(keys: Uint32Array, place: number): number {
    const slot = this.#slotOf(keys, place);
    const found = (this.#slots[slot] as number) - 1;
    if (found >= 0) return found;
    if ((this.#size + 1) * this.#entryWords > this.#entries.length) {
      this.#grow();
      return this.add(keys, place);
    }
    const start = this.#size * this.#entryWords;
    for (let word = 0; word < this.#keyWords; word++) this.#entries[start + word] = keys[place + word] as number;
    this.#slots[slot] = this.#size + 1;
    return this.#size++;
  }

  /** A word of an entry, the key's first. */
  get(entry: number, word: number): number {
    return this.#entries[entry * this.#entryWords + word] as number;
  }

  set(entry: number, word: number, value: number): void {
    this.#entries[entry * this.#entryWords + word] = value;
  }

  /** Slot of a key, or the free one where it belongs (linear probing). */
  #slotOf(keys: Uint32Array, place: number): number {
    const mask = this.#slots.length - 1;
    const last = keys[place + this.#keyWords - 1] as number;
    let slot = mix32(Math.imul(keys[place] as number, 0x9e3779b1) ^ last) & mask;
    for (let found = this.#slots[slot] as number; found !== 0; found = this.#slots[slot] as number) {
      if (this.#equals((found - 1) * this.#entryWords, keys, place)) break;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #equals(start: number, keys: Uint32Array, place: number): boolean {
    for (let word = 0; word < this.#keyWords; word++) {
      if (this.#entries[start + word] !== keys[place + word]) return false;
    }
    return true;
  }

  #grow(): void {
    const entries = new Uint32Array(2 * this.#entries.length);
    entries.set(this.#entries);
    this.#entries = entries;
    this.#slots = slotsFor(entries.length / this.#entryWords);
    for (let entry = 0; entry < this.#size; entry++) {
      this.#slots[this.#slotOf(entries, entry * this.#entryWords)] = entry + 1;
    }
  }
}

/** A table for the keys of a partition: no larger at the start than the budget, as a corpus of copies needs far less. */
export function partitionTable(kind: KeyKind, valueWords: number, records: number): KeyTable {
  const budget = Math.floor(PARTITION_BYTES / BYTES_PER_RECORD[kind]);
  return new KeyTable(KEY_WORDS[kind], valueWords, Math.min(records, budget));
}
