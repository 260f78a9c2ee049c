/** Repetition inside a document: n-grams of words, lines and paragraphs that are there more than once. All counts are exact. */
import { countCharacters, SURROGATE } from "./characters.ts";
import { mix, PAIR_FACTORS, step, TABLE_SEED, tableSize } from "./hash.ts";
import { Scratch } from "./scratch.ts";
import type { TextFacts } from "./textFacts.ts";

const arrays = {
  before: new Scratch(),
  places: new Scratch(),
  names: new Scratch(),
  heads: new Scratch(),
  tails: new Scratch(),
  counts: new Scratch(),
  firsts: new Scratch(),
  hashes: new Scratch(),
  table: new Scratch(),
};

/** Characters (code points) before each word, white space left out; one more entry for the end. */
export function charactersBefore({ text, words, starts, ends, allKinds }: TextFacts): Int32Array {
  const before = arrays.before.take(words + 1);
  const pairs = (allKinds & SURROGATE) !== 0;
  let characters = 0;
  for (let word = 0; word < words; word++) {
    before[word] = characters;
    const [start, end] = [starts[word] as number, ends[word] as number];
    characters += pairs ? countCharacters(text, start, end) : end - start;
  }
  before[words] = characters;
  return before;
}

/** Places where an n-gram may be repeated, because the two n-grams that it is made of, one word shorter, are. */
interface Candidates {
  readonly size: number;
  /** Their first words, in order. */
  readonly places: Int32Array;
  /** Numbers of the two shorter n-grams. */
  readonly heads: Int32Array;
  readonly tails: Int32Array;
}

/** N-grams of one length that are there more than once. */
interface Repeated {
  /** How many there are, each counted as often as it is there. */
  readonly size: number;
  /** Their first words, in order. */
  readonly places: Int32Array;
  /** A number for each n-gram. */
  readonly names: Int32Array;
  /** Place of the most frequent n-gram, the first of several, and how often it is there; 0 where none is repeated. */
  readonly top: number;
  readonly topCount: number;
}

/** 1 for a count above 1, else 0. What to keep is counted with it, because half of the branches there would be guessed wrong. */
function isRepeated(count: number): number {
  return (1 - count) >>> 31;
}

function candidatesFromWords({ words, ids, counts }: TextFacts): Candidates {
  const [places, heads, tails] = [arrays.places.take(words), arrays.heads.take(words), arrays.tails.take(words)];
  let size = 0;
  let tail = ids[0] as number;
  for (let word = 0; word + 1 < words; word++) {
    const head = tail;
    tail = ids[word + 1] as number;
    places[size] = word;
    heads[size] = head;
    tails[size] = tail;
    size += isRepeated(counts[head] as number) & isRepeated(counts[tail] as number);
  }
  return { size, places, heads, tails };
}

/** From n-grams to those one word longer, in the same arrays. */
function candidatesFrom({ size: count, places, names }: Repeated, { heads, tails }: Candidates): Candidates {
  let size = 0;
  for (let index = 0; index + 1 < count; index++) {
    const place = places[index] as number;
    places[size] = place;
    heads[size] = names[index] as number;
    tails[size] = names[index + 1] as number;
    // 1 where the next one starts at the next word.
    size += (places[index + 1]! - place - 2) >>> 31;
  }
  return { size, places, heads, tails };
}

/** Keeps the candidates that are there more than once. The pair of numbers tells exactly which n-gram it is. */
function keepRepeated({ size, places, heads, tails }: Candidates): Repeated {
  const [names, counts, firsts] = [arrays.names.take(size), arrays.counts.take(size), arrays.firsts.take(size)];
  const slots = tableSize(size);
  const table = arrays.table.takeZeros(slots);
  const [mask, shift] = [slots - 1, Math.clz32(slots) + 1];
  const [headFactor, tailFactor] = PAIR_FACTORS as unknown as [number, number];
  let distinct = 0;
  for (let index = 0; index < size; index++) {
    const [head, tail] = [heads[index] as number, tails[index] as number];
    let slot = (Math.imul(head, headFactor) + Math.imul(tail, tailFactor)) >>> shift;
    let name = (table[slot] as number) - 1;
    while (name >= 0 && (heads[firsts[name]!] !== head || tails[firsts[name]!] !== tail)) {
      slot = (slot + 1) & mask;
      name = (table[slot] as number) - 1;
    }
    if (name < 0) {
      name = distinct++;
      table[slot] = distinct;
      firsts[name] = index;
      counts[name] = 0;
    }
    counts[name]! += 1;
    names[index] = name;
  }
  let [top, topCount] = [0, 1];
  for (let name = 0; name < distinct; name++) {
    if (counts[name]! <= topCount) continue;
    top = places[firsts[name]!] as number;
    topCount = counts[name] as number;
  }
  let kept = 0;
  for (let index = 0; index < size; index++) {
    const name = names[index] as number;
    places[kept] = places[index] as number;
    names[kept] = name;
    kept += isRepeated(counts[name] as number);
  }
  return { size: kept, places, names, top, topCount: kept === 0 ? 0 : topCount };
}

/** Characters of the words that some repeated n-gram covers, each counted once. */
function coveredCharacters({ size, places }: Repeated, n: number, before: Int32Array): number {
  let [characters, covered] = [0, 0];
  for (let index = 0; index < size; index++) {
    const place = places[index] as number;
    characters += before[place + n]! - before[Math.max(place, covered)]!;
    covered = place + n;
  }
  return characters;
}

export interface NgramShare {
  readonly n: number;
  /** Characters of the most frequent n-gram, times how often it is there; 0 where none is there twice. */
  readonly top: number;
  /** Characters in n-grams that are there more than once. */
  readonly repeated: number;
}

/**
 * Shares of the characters for n from 2 to `last`.
 * @param covered least n whose share of repeated n-grams is wanted; it is 0 below.
 */
export function ngramShares(facts: TextFacts, before: Int32Array, last: number, covered = 2): NgramShare[] {
  const all = Math.max(1, before[facts.words] as number);
  const shares: NgramShare[] = [];
  let candidates = candidatesFromWords(facts);
  for (let n = 2; n <= last; n++) {
    if (candidates.size === 0) {
      shares.push({ n, top: 0, repeated: 0 });
      continue;
    }
    const repeated = keepRepeated(candidates);
    const { top, topCount } = repeated;
    const characters = topCount * (before[top + (topCount > 0 ? n : 0)]! - before[top]!);
    const coveredBy = n < covered ? 0 : coveredCharacters(repeated, n, before);
    shares.push({ n, top: characters / all, repeated: coveredBy / all });
    candidates = candidatesFrom(repeated, candidates);
  }
  return shares;
}

export interface DuplicateShares {
  /** Pieces that are there more than once, of all pieces. */
  readonly pieces: number;
  /** Their characters, of all characters. */
  readonly characters: number;
}

function sameWords(ids: Int32Array, a: number, b: number, length: number): boolean {
  for (let index = 0; index < length; index++) if (ids[a + index] !== ids[b + index]) return false;
  return true;
}

/**
 * Shares of pieces that are there more than once. Two pieces are equal when they have the same words.
 * @param borders the first word of each piece, and the end; none is empty.
 */
export function duplicateShares(
  { ids, words }: TextFacts,
  before: Int32Array,
  borders: readonly number[],
): DuplicateShares {
  const size = Math.max(0, borders.length - 1);
  if (size < 2) return { pieces: 0, characters: 0 };
  const [hashes, counts] = [arrays.hashes.take(size), arrays.counts.take(size)];
  const slots = tableSize(size);
  const table = arrays.table.takeZeros(slots);
  const mask = slots - 1;
  let [pieces, characters] = [0, 0];
  for (let piece = 0; piece < size; piece++) {
    const [start, end] = [borders[piece] as number, borders[piece + 1] as number];
    let hash = TABLE_SEED;
    for (let word = start; word < end; word++) hash = step(hash, ids[word] as number);
    hash = mix(hash);
    hashes[piece] = hash;
    let slot = hash & mask;
    let first = (table[slot] as number) - 1;
    while (first >= 0) {
      const other = borders[first] as number;
      const alike = hashes[first] === hash && borders[first + 1]! - other === end - start;
      if (alike && sameWords(ids, start, other, end - start)) break;
      slot = (slot + 1) & mask;
      first = (table[slot] as number) - 1;
    }
    if (first < 0) {
      table[slot] = piece + 1;
      counts[piece] = 1;
      continue;
    }
    // The first of them turns out to be a duplicate with the second.
    const times = counts[first] === 1 ? 2 : 1;
    counts[first]! += 1;
    pieces += times;
    characters += times * (before[end]! - before[start]!);
  }
  return { pieces: pieces / size, characters: characters / Math.max(1, before[words] as number) };
}
