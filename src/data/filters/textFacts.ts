/**
 * What several taggers need of a text, found in one pass: its words (pieces between white space, as Python's str.split()
 * gives them), which of them are equal, and its lines.
 */
import type { Document } from "../document.ts";
import { characterTable, LETTER, NORMAL_SHIFT, SPACE, SURROGATE } from "./characters.ts";
import { HASH_SEED, mix, spread, step, TABLE_SEED, tableSize } from "./hash.ts";
import { Scratch } from "./scratch.ts";
import { unitsOf } from "./units.ts";

/** Arrays have more places than are used. */
export interface TextFacts {
  readonly text: string;
  /** The text's UTF-16 units. */
  readonly units: Uint16Array;
  readonly words: number;
  /** Of each word: its first UTF-16 unit. */
  readonly starts: Int32Array;
  /** Of each word: the unit after its last. */
  readonly ends: Int32Array;
  /** Of each word: the kinds of its characters, as bits of characters.ts. */
  readonly kinds: Int32Array;
  /** Those of all words together. */
  readonly allKinds: number;
  /**
   * Of each word: a hash of it in lower case without punctuation, NO_HASH where nothing is left. It is the same in every
   * process.
   */
  readonly normalHashes: Int32Array;
  /** Of each word: equal words have the same number; numbers go by first occurrence, from 0. */
  readonly ids: Int32Array;
  readonly distinct: number;
  /** Of each id: how many words have it. */
  readonly counts: Int32Array;
  /** Of each id: the first word that has it. */
  readonly firsts: Int32Array;
  /** Pieces between "\n". */
  readonly lines: number;
  /** Of each line: its first unit; one more entry for where a further line would start. */
  readonly lineStarts: Int32Array;
  /** Of each line: the first word at or after its start; one more entry for the end. */
  readonly lineWords: Int32Array;
}

const arrays = {
  starts: new Scratch(),
  ends: new Scratch(),
  kinds: new Scratch(),
  normalHashes: new Scratch(),
  hashes: new Scratch(),
  ids: new Scratch(),
  counts: new Scratch(),
  firsts: new Scratch(),
  lineStarts: new Scratch(),
  lineWords: new Scratch(),
  table: new Scratch(),
};

/** Stands for the hash of a word that is punctuation only. */
export const NO_HASH = 0;

/** Up to here the most words and lines that a text can have are taken for those it has. */
const SHORT_TEXT = 2 ** 16;

/** Room for the words and lines of a text. */
function roomFor(units: Uint16Array, length: number): { words: number; lines: number } {
  if (length <= SHORT_TEXT) return { words: (length >> 1) + 1, lines: length + 2 };
  const table = characterTable();
  let [words, lines, before] = [0, 2, SPACE];
  for (let place = 0; place < length; place++) {
    const unit = units[place] as number;
    const space = (table[unit] as number) & SPACE;
    if (space < before) words += 1;
    if (unit === 10) lines += 1;
    before = space;
  }
  return { words, lines };
}

/**
 * The facts of a text, good until they are asked for of another one: the arrays are used again. Time and memory are linear
 * in the length of the text.
 */
export function findTextFacts(text: string): TextFacts {
  last = undefined;
  const table = characterTable();
  const units = unitsOf(text);
  const { length } = text;
  const room = roomFor(units, length);
  const [starts, ends] = [arrays.starts.take(room.words), arrays.ends.take(room.words)];
  const [kinds, hashes] = [arrays.kinds.take(room.words), arrays.hashes.take(room.words)];
  const normalHashes = arrays.normalHashes.take(room.words);
  const [lineStarts, lineWords] = [arrays.lineStarts.take(room.lines), arrays.lineWords.take(room.lines)];
  // Constants of modules are looked up whenever they are used.
  const [space, seed, normalSeed, shift] = [SPACE, TABLE_SEED, HASH_SEED, NORMAL_SHIFT];
  const kindBits = (1 << shift) - 1;
  let words = 0;
  let lines = 1;
  let allKinds = 0;
  let place = 0;
  lineStarts[0] = 0;
  lineWords[0] = 0;
  // Ends the last word.
  units[length] = 32;
  while (place < length) {
    let unit = units[place] as number;
    let entry = table[unit] as number;
    if ((entry & space) !== 0) {
      place += 1;
      if (unit === 10) {
        lineStarts[lines] = place;
        lineWords[lines++] = words;
      }
      continue;
    }
    starts[words] = place;
    let kind = 0;
    let hash = seed;
    let normalHash = normalSeed;
    do {
      kind |= entry;
      hash = step(hash, unit);
      const normal = entry >> shift;
      if (normal !== 0) normalHash = step(normalHash, normal);
      unit = units[++place] as number;
      entry = table[unit] as number;
    } while ((entry & space) === 0);
    ends[words] = place;
    kinds[words] = kind & kindBits;
    allKinds |= kind;
    normalHashes[words] = normalHash === normalSeed ? NO_HASH : mix(normalHash);
    hashes[words++] = hash;
  }
  // Past the last line one would start after a line end that is not there.
  lineStarts[lines] = length + 1;
  lineWords[lines] = words;
  allKinds &= kindBits;
  const { ids, distinct, counts, firsts } = identify(units, words, starts, ends, hashes);
  // Written out: spreading two objects takes as long as all the rest of a short text.
  return {
    text,
    units,
    words,
    allKinds,
    starts,
    ends,
    kinds,
    normalHashes,
    ids,
    distinct,
    counts,
    firsts,
    lines,
    lineStarts,
    lineWords,
  };
}

function sameUnits(units: Uint16Array, a: number, b: number, length: number): boolean {
  for (let index = 0; index < length; index++) if (units[a + index] !== units[b + index]) return false;
  return true;
}

/** Numbers the different words. */
function identify(units: Uint16Array, words: number, starts: Int32Array, ends: Int32Array, hashes: Int32Array) {
  const [ids, counts, firsts] = [arrays.ids.take(words), arrays.counts.take(words), arrays.firsts.take(words)];
  const size = tableSize(words);
  const table = arrays.table.takeZeros(size);
  const [mask, shift] = [size - 1, Math.clz32(size) + 1];
  let distinct = 0;
  for (let word = 0; word < words; word++) {
    const hash = hashes[word] as number;
    const start = starts[word] as number;
    const length = (ends[word] as number) - start;
    let slot = spread(hash, shift);
    let id = (table[slot] as number) - 1;
    while (id >= 0) {
      const first = firsts[id] as number;
      const other = starts[first] as number;
      const alike = hashes[first] === hash && (ends[first] as number) - other === length;
      if (alike && sameUnits(units, start, other, length)) break;
      slot = (slot + 1) & mask;
      id = (table[slot] as number) - 1;
    }
    if (id < 0) {
      id = distinct++;
      table[slot] = distinct;
      firsts[id] = word;
      counts[id] = 0;
    }
    ids[word] = id;
    counts[id]! += 1;
  }
  return { ids, distinct, counts, firsts };
}

let last: { readonly document: Document; readonly facts: TextFacts } | undefined;

/**
 * The facts of a document's text. Found once where several taggers ask for those of one document before the next; each has
 * to be done with them before it waits for anything.
 */
export function textFacts(document: Document): TextFacts {
  if (last?.document !== document) last = { document, facts: findTextFacts(document.text) };
  return last.facts;
}

/** Whether a word has a letter of any script. */
export function hasLetter({ text, starts, ends, kinds }: TextFacts, word: number): boolean {
  const kind = kinds[word] as number;
  if ((kind & LETTER) !== 0) return true;
  return (kind & SURROGATE) !== 0 && /\p{L}/u.test(text.slice(starts[word], ends[word]));
}
