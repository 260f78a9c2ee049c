/**
 * What several taggers need of a text, found in one pass: its words (pieces between white space, as Python's str.split()
 * gives them), which of them are equal, and its lines.
 */
import type { Document } from "../document.ts";
import { characterKinds, countCharacters, LETTER, SPACE, SURROGATE } from "./characters.ts";
import { mix, step, TABLE_SEED, tableSize } from "./hash.ts";

export interface TextFacts {
  readonly text: string;
  /** Of each word: its first UTF-16 unit. */
  readonly starts: Int32Array;
  /** Of each word: the unit after its last. */
  readonly ends: Int32Array;
  /** Of each word: the kinds of its characters, as bits of characters.ts. */
  readonly kinds: Uint8Array;
  /** Of each word: equal words have the same number; numbers go by first occurrence, from 0. */
  readonly ids: Int32Array;
  /** Of each id: how many words have it. */
  readonly counts: Int32Array;
  /** Of each id: the first word that has it. */
  readonly firsts: Int32Array;
  /** Of each line (a piece between "\n"): its first unit; one more entry for the end, where a further line would start. */
  readonly lines: Int32Array;
  /** Of each line: the first word at or after its start; one more entry for the end. */
  readonly lineWords: Int32Array;
}

function grown<T extends Int32Array | Uint8Array>(array: T): T {
  const larger = new (array.constructor as new (length: number) => T)(2 * array.length);
  larger.set(array);
  return larger;
}

interface Words {
  readonly starts: Int32Array;
  readonly ends: Int32Array;
  readonly kinds: Uint8Array;
  readonly hashes: Int32Array;
  readonly lines: Int32Array;
  readonly lineWords: Int32Array;
}

/** Borders, kinds and hashes of the words, and borders of the lines. */
function scan(text: string): Words {
  const table = characterKinds();
  const { length } = text;
  let starts = new Int32Array((length >> 2) + 8);
  let ends = new Int32Array(starts.length);
  let kinds = new Uint8Array(starts.length);
  let hashes = new Int32Array(starts.length);
  let lines = new Int32Array((length >> 5) + 8);
  let lineWords = new Int32Array(lines.length);
  let words = 0;
  let count = 1;
  for (let place = 0; place < length; ) {
    let unit = text.charCodeAt(place);
    let kind = table[unit] as number;
    if (kind === SPACE) {
      place += 1;
      if (unit !== 10) continue;
      if (count + 1 >= lines.length) [lines, lineWords] = [grown(lines), grown(lineWords)];
      lines[count] = place;
      lineWords[count++] = words;
      continue;
    }
    if (words === starts.length) {
      [starts, ends, kinds, hashes] = [grown(starts), grown(ends), grown(kinds), grown(hashes)];
    }
    starts[words] = place;
    let [found, hash] = [0, TABLE_SEED];
    do {
      found |= kind;
      hash = step(hash, unit);
      place += 1;
      if (place === length) break;
      unit = text.charCodeAt(place);
      kind = table[unit] as number;
    } while (kind !== SPACE);
    ends[words] = place;
    kinds[words] = found;
    hashes[words++] = mix(hash);
  }
  // Past the last line one would start after a line end that is not there.
  lines[count] = length + 1;
  lineWords[count] = words;
  return {
    starts: starts.subarray(0, words),
    ends: ends.subarray(0, words),
    kinds: kinds.subarray(0, words),
    hashes: hashes.subarray(0, words),
    lines: lines.subarray(0, count + 1),
    lineWords: lineWords.subarray(0, count + 1),
  };
}

function sameUnits(text: string, a: number, b: number, length: number): boolean {
  for (let index = 0; index < length; index++) {
    if (text.charCodeAt(a + index) !== text.charCodeAt(b + index)) return false;
  }
  return true;
}

/** Numbers the different words. */
function identify(text: string, { starts, ends, hashes }: Words) {
  const ids = new Int32Array(starts.length);
  const counts = new Int32Array(starts.length);
  const firsts = new Int32Array(starts.length);
  const table = new Int32Array(tableSize(starts.length));
  const mask = table.length - 1;
  let distinct = 0;
  for (let word = 0; word < starts.length; word++) {
    const hash = hashes[word] as number;
    const start = starts[word] as number;
    const length = (ends[word] as number) - start;
    let slot = hash & mask;
    let id = (table[slot] as number) - 1;
    while (id >= 0) {
      const first = firsts[id] as number;
      const other = starts[first] as number;
      const alike = hashes[first] === hash && (ends[first] as number) - other === length;
      if (alike && sameUnits(text, start, other, length)) break;
      slot = (slot + 1) & mask;
      id = (table[slot] as number) - 1;
    }
    if (id < 0) {
      id = distinct++;
      table[slot] = distinct;
      firsts[id] = word;
    }
    ids[word] = id;
    counts[id] = (counts[id] as number) + 1;
  }
  return { ids, counts: counts.subarray(0, distinct), firsts: firsts.subarray(0, distinct) };
}

/** The facts of a text. Time and memory are linear in its length. */
export function findTextFacts(text: string): TextFacts {
  const words = scan(text);
  const { starts, ends, kinds, lines, lineWords } = words;
  return { text, starts, ends, kinds, lines, lineWords, ...identify(text, words) };
}

const known = new WeakMap<Document, TextFacts>();

/** The facts of a document's text; found once, whichever tagger asks first. */
export function textFacts(document: Document): TextFacts {
  let facts = known.get(document);
  if (facts === undefined) {
    facts = findTextFacts(document.text);
    known.set(document, facts);
  }
  return facts;
}

/** Characters (code points) of a word. */
export function wordLength({ text, starts, ends, kinds }: TextFacts, word: number): number {
  const [start, end] = [starts[word] as number, ends[word] as number];
  return ((kinds[word] as number) & SURROGATE) === 0 ? end - start : countCharacters(text, start, end);
}

/** Whether a word has a letter of any script. */
export function hasLetter({ text, starts, ends, kinds }: TextFacts, word: number): boolean {
  const kind = kinds[word] as number;
  if ((kind & LETTER) !== 0) return true;
  return (kind & SURROGATE) !== 0 && /\p{L}/u.test(text.slice(starts[word], ends[word]));
}
