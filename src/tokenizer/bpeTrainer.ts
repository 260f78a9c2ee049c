/**
 * Byte-pair encoding learnt from word counts, with the choices of Hugging Face's trainer: the most frequent pair is merged
 * first, ties go to the pair of lower ids, and a pair is counted inside words only. The result depends on the counts alone.
 *
 * Source: Sennrich et al. 2016, arXiv 1508.07909. The node binding of `tokenizers` trains too, but with a fixed size of
 * 30,000, from files, line by line, and it writes blank lines to standard output.
 */
import { TokenizerError } from "../errors.ts";
import { addedToken, byteLevelBpeJson } from "./bpeJson.ts";
import { byteCharacters } from "./byteLevel.ts";

/** Pairs of ids are map keys: left * PAIR + right. */
const PAIR = 2 ** 24;

interface Candidate {
  readonly pair: number;
  readonly count: number;
}

/** A heap of pairs, most frequent first, then by lower ids. */
class PairQueue {
  readonly #heap: Candidate[] = [];

  push(candidate: Candidate): void {
    const heap = this.#heap;
    let index = heap.push(candidate) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!before(candidate, heap[parent]!)) break;
      heap[index] = heap[parent]!;
      index = parent;
    }
    heap[index] = candidate;
  }

  pop(): Candidate | undefined {
    const heap = this.#heap;
    const top = heap[0];
    const last = heap.pop();
    if (top === undefined || last === undefined || heap.length === 0) return top;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1]!, heap[child]!)) child++;
      if (!before(heap[child]!, last)) break;
      heap[index] = heap[child]!;
      index = child;
    }
    heap[index] = last;
    return top;
  }
}

function before(a: Candidate, b: Candidate): boolean {
  return a.count !== b.count ? a.count > b.count : a.pair < b.pair;
}

/** Words as ids with the number and the places of every pair. */
class PairTable {
  readonly #words: number[][] = [];
  readonly #wordCounts: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #places = new Map<number, Set<number>>();

  add(ids: number[], count: number): void {
    this.#words.push(ids);
    this.#wordCounts.push(count);
    this.#countPairs(this.#words.length - 1, 1);
  }

  pairs(): Iterable<[number, number]> {
    return this.#counts;
  }

  count(pair: number): number {
    return this.#counts.get(pair) ?? 0;
  }

  /** Replaces a pair by a new id everywhere; returns the pairs that this made. */
  merge(pair: number, id: number): Set<number> {
    const left = Math.floor(pair / PAIR);
    const right = pair % PAIR;
    const made = new Set<number>();
    for (const place of [...(this.#places.get(pair) ?? [])]) {
      const word = this.#words[place]!;
      const merged: number[] = [];
      for (let index = 0; index < word.length; index++) {
        const hit = word[index] === left && word[index + 1] === right;
        merged.push(hit ? id : word[index]!);
        if (hit) index++;
      }
      if (merged.length === word.length) continue;
      this.#countPairs(place, -1);
      this.#words[place] = merged;
      this.#countPairs(place, 1);
      for (let index = 0; index + 1 < merged.length; index++) {
        if (merged[index] === id || merged[index + 1] === id) made.add(merged[index]! * PAIR + merged[index + 1]!);
      }
    }
    this.#counts.delete(pair);
    this.#places.delete(pair);
    return made;
  }

  #countPairs(place: number, sign: 1 | -1): void {
    const word = this.#words[place]!;
    const count = sign * this.#wordCounts[place]!;
    for (let index = 0; index + 1 < word.length; index++) {
      const pair = word[index]! * PAIR + word[index + 1]!;
      this.#counts.set(pair, (this.#counts.get(pair) ?? 0) + count);
      if (sign === -1) continue;
      const places = this.#places.get(pair);
      if (places === undefined) this.#places.set(pair, new Set([place]));
      else places.add(place);
    }
  }
}

export interface Bpe {
  /** Entries in order of id: special tokens, the 256 bytes by code point of their character, merged tokens. */
  readonly tokens: readonly string[];
  /** Pairs in order of learning. */
  readonly merges: readonly (readonly [string, string])[];
}

/**
 * Learns a vocabulary of exactly `vocabSize` entries.
 * @param wordCounts how often each word occurs, in the characters of the byte-level alphabet.
 * @throws TokenizerError if the size leaves no room for bytes and special tokens, or the words hold too few pairs.
 */
export function trainBpe(
  wordCounts: ReadonlyMap<string, number>,
  options: { readonly vocabSize: number; readonly specialTokens: readonly string[] },
): Bpe {
  const { vocabSize, specialTokens } = options;
  const tokens = [...specialTokens, ...[...byteCharacters].sort()];
  if (vocabSize < tokens.length) {
    throw new TokenizerError(
      `tokenizer: vocabSize is ${vocabSize}, the 256 bytes and ${specialTokens.length} special tokens need ${tokens.length}`,
    );
  }
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const table = new PairTable();
  for (const [word, count] of wordCounts) {
    table.add(
      Array.from(word, (character) => ids.get(character)!),
      count,
    );
  }
  const queue = new PairQueue();
  for (const [pair, count] of table.pairs()) queue.push({ pair, count });
  const merges: [string, string][] = [];
  while (tokens.length < vocabSize) {
    const best = queue.pop();
    if (best === undefined) {
      throw new TokenizerError(`tokenizer: the text gives ${tokens.length} entries, vocabSize is ${vocabSize}`, {
        hint: `lower tokenizer.vocabSize to at most ${tokens.length}, or add text`,
      });
    }
    const count = table.count(best.pair);
    if (count !== best.count) {
      if (count > 0) queue.push({ pair: best.pair, count });
      continue;
    }
    const left = tokens[Math.floor(best.pair / PAIR)]!;
    const right = tokens[best.pair % PAIR]!;
    let id = ids.get(left + right);
    if (id === undefined) {
      id = tokens.push(left + right) - 1;
      ids.set(left + right, id);
    }
    merges.push([left, right]);
    for (const pair of table.merge(best.pair, id)) queue.push({ pair, count: table.count(pair) });
  }
  return { tokens, merges };
}

/** The tokenizer.json of a BPE, laid out like OLMoE's, with special tokens added. */
export function bpeTokenizerJson(bpe: Bpe, specialTokens: readonly string[]): string {
  const added = specialTokens.map((content, id) => addedToken(id, content, true));
  const vocab = Object.fromEntries(bpe.tokens.map((token, id) => [token, id]));
  const merges = bpe.merges.map(([left, right]) => `${left} ${right}`);
  return JSON.stringify(byteLevelBpeJson(added, vocab, merges));
}
