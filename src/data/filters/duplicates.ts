/** Repetition inside a document: n-grams of words, lines and paragraphs that are there more than once. All counts are exact. */
import { mix, step, TABLE_SEED, tableSize } from "./hash.ts";
import { Scratch } from "./scratch.ts";
import { type TextFacts, wordLength } from "./textFacts.ts";

const arrays = {
  before: new Scratch(),
  places: new Scratch(),
  names: new Scratch(),
  heads: new Scratch(),
  tails: new Scratch(),
  counts: new Scratch(),
  hashes: new Scratch(),
  table: new Scratch(),
};

/** Characters (code points) before each word, white space left out; one more entry for the end. */
export function charactersBefore(facts: TextFacts): Int32Array {
  const before = arrays.before.take(facts.words + 1);
  let characters = 0;
  for (let word = 0; word < facts.words; word++) {
    before[word] = characters;
    characters += wordLength(facts, word);
  }
  before[facts.words] = characters;
  return before;
}

/** N-grams of one length that are there more than once. */
interface Shorter {
  /** How many there are, each counted as often as it is there. */
  readonly size: number;
  /** Their first words, in order. */
  readonly places: Int32Array;
  /** A number for each n-gram. */
  readonly names: Int32Array;
}

interface Repeated extends Shorter {
  /** Place of the most frequent n-gram, the first of several, and how often it is there; 0 where none is repeated. */
  readonly top: number;
  readonly topCount: number;
}

/** Keeps the places whose n-gram is there more than once. */
function keepRepeated(places: Int32Array, names: Int32Array, size: number, counts: Int32Array): Repeated {
  let [kept, top, topCount] = [0, 0, 0];
  for (let index = 0; index < size; index++) {
    const name = names[index] as number;
    const count = counts[name] as number;
    if (count < 2) continue;
    const place = places[index] as number;
    if (count > topCount) {
      top = place;
      topCount = count;
    }
    places[kept] = place;
    names[kept++] = name;
  }
  return { size: kept, places, names, top, topCount };
}

function repeatedWords({ words, ids, counts }: TextFacts): Shorter {
  const [places, names] = [arrays.places.take(words), arrays.names.take(words)];
  let size = 0;
  for (let word = 0; word < words; word++) {
    const id = ids[word] as number;
    if (counts[id] === 1) continue;
    places[size] = word;
    names[size++] = id;
  }
  return { size, places, names };
}

/** Room for the different n-grams of one length. */
interface Room {
  /** Of each n-gram: the numbers of the two n-grams that it is made of, one word shorter. */
  readonly heads: Int32Array;
  readonly tails: Int32Array;
  readonly counts: Int32Array;
  readonly table: Int32Array;
}

/**
 * From n-grams to those one word longer, in the same arrays. A longer one can be there twice only if both shorter ones in it
 * are, so only these are looked at, and the pair of their numbers tells exactly which it is.
 */
function longer({ size, places, names }: Shorter, { heads, tails, counts, table }: Room): Repeated {
  const slots = tableSize(size);
  const mask = slots - 1;
  const seed = TABLE_SEED;
  table.fill(0, 0, slots);
  let [found, distinct] = [0, 0];
  for (let index = 0; index + 1 < size; index++) {
    const place = places[index] as number;
    if (places[index + 1] !== place + 1) continue;
    const [head, tail] = [names[index] as number, names[index + 1] as number];
    let slot = mix(step(mix(seed ^ head), tail)) & mask;
    let name = (table[slot] as number) - 1;
    while (name >= 0 && (heads[name] !== head || tails[name] !== tail)) {
      slot = (slot + 1) & mask;
      name = (table[slot] as number) - 1;
    }
    if (name < 0) {
      name = distinct++;
      table[slot] = distinct;
      heads[name] = head;
      tails[name] = tail;
      counts[name] = 0;
    }
    counts[name]! += 1;
    places[found] = place;
    names[found++] = name;
  }
  return keepRepeated(places, names, found, counts);
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

/** Shares of the characters for n from 2 to `last`. */
export function ngramShares(facts: TextFacts, before: Int32Array, last: number): NgramShare[] {
  const all = Math.max(1, before[facts.words] as number);
  const shares: NgramShare[] = [];
  let shorter = repeatedWords(facts);
  const { size } = shorter;
  const [heads, tails, counts] = [arrays.heads.take(size), arrays.tails.take(size), arrays.counts.take(size)];
  const room = { heads, tails, counts, table: arrays.table.take(tableSize(size)) };
  for (let n = 2; n <= last; n++) {
    const repeated = longer(shorter, room);
    const { top, topCount } = repeated;
    shorter = repeated;
    const characters = topCount * (before[top + (topCount > 0 ? n : 0)]! - before[top]!);
    shares.push({ n, top: characters / all, repeated: coveredCharacters(repeated, n, before) / all });
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
  const [hashes, counts] = [arrays.hashes.take(size), arrays.counts.take(size)];
  const slots = tableSize(size);
  const table = arrays.table.takeZeros(slots);
  const mask = slots - 1;
  let [pieces, characters] = [0, 0];
  for (let piece = 0; piece < size; piece++) {
    const [start, end] = [borders[piece] as number, borders[piece + 1] as number];
    let hash = TABLE_SEED;
    for (let word = start; word < end; word++) hash = mix(step(hash, ids[word] as number));
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
  return { pieces: pieces / Math.max(1, size), characters: characters / Math.max(1, before[words] as number) };
}
