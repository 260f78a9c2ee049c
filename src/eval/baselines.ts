/**
 * Language models that only count: what a trained model has to beat. They need no backend and train in seconds.
 */
import { ConfigError, DataError } from "../errors.ts";

export interface BigramModel {
  /**
   * p(token | previous), greater than 0 for every token.
   *
   * @param previous the token before, or undefined where there is none, which gives the unigram probability.
   * @throws DataError if an id is outside of the vocabulary.
   */
  probability(previous: number | undefined, token: number): number;
  /**
   * Sum of -ln p over the tokens, the first without a token before it. Divide by ln 2 and by the text's bytes for bits per byte.
   *
   * @throws DataError if an id is outside of the vocabulary.
   */
  nats(tokens: ArrayLike<number>): number;
}

/** The pairs of each first token in rows: row v is `seconds` and `counts` from `offsets[v]` to `offsets[v + 1]`, seconds rising. */
interface PairCounts {
  readonly offsets: Uint32Array;
  readonly seconds: Uint32Array;
  readonly counts: Uint32Array;
  /** Pairs that start with each token. */
  readonly totals: Uint32Array;
}

class GrowingIds {
  #ids = new Uint32Array(1024);
  #length = 0;

  push(id: number): void {
    if (this.#length === this.#ids.length) {
      const larger = new Uint32Array(this.#ids.length * 2);
      larger.set(this.#ids);
      this.#ids = larger;
    }
    this.#ids[this.#length++] = id;
  }

  get ids(): Uint32Array {
    return this.#ids.subarray(0, this.#length);
  }
}

function checkId(place: string, id: number, vocabSize: number): void {
  if (Number.isInteger(id) && id >= 0 && id < vocabSize) return;
  throw new DataError(`${place}: token id ${id}, the vocabulary holds 0 to ${vocabSize - 1}`);
}

/** Sorts the pairs by first token in one pass, then the seconds within each row, and counts what is equal. */
function countPairs(firsts: Uint32Array, unsortedSeconds: Uint32Array, vocabSize: number): PairCounts {
  const totals = new Uint32Array(vocabSize);
  for (const first of firsts) totals[first]! += 1;
  const next = new Uint32Array(vocabSize);
  for (let token = 1; token < vocabSize; token++) next[token] = next[token - 1]! + totals[token - 1]!;
  const seconds = new Uint32Array(firsts.length);
  for (let pair = 0; pair < firsts.length; pair++) {
    const first = firsts[pair]!;
    seconds[next[first]!++] = unsortedSeconds[pair]!;
  }
  const counts = new Uint32Array(firsts.length);
  const offsets = new Uint32Array(vocabSize + 1);
  let written = 0;
  for (let token = 0, start = 0; token < vocabSize; token++) {
    offsets[token] = written;
    const end = start + totals[token]!;
    // The distinct seconds are written over those that have been read: there are never more of them.
    const row = seconds.subarray(start, end).sort();
    for (let place = 0; place < row.length; place++) {
      if (place === 0 || row[place] !== seconds[written - 1]) seconds[written++] = row[place]!;
      counts[written - 1]! += 1;
    }
    start = end;
  }
  offsets[vocabSize] = written;
  return { offsets, seconds: seconds.slice(0, written), counts: counts.slice(0, written), totals };
}

function countOfPair({ offsets, seconds, counts }: PairCounts, first: number, second: number): number {
  let low = offsets[first]!;
  let high = offsets[first + 1]!;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (seconds[middle]! < second) low = middle + 1;
    else high = middle;
  }
  return low < offsets[first + 1]! && seconds[low] === second ? counts[low]! : 0;
}

/** (max(c - d, 0) + d * distinct * p_uniform) / total, which sums to 1 and is nowhere 0. */
function unigramProbabilities(tokenCounts: Uint32Array, discount: number): Float64Array {
  const vocabSize = tokenCounts.length;
  let total = 0;
  let distinct = 0;
  for (const count of tokenCounts) {
    total += count;
    if (count > 0) distinct += 1;
  }
  if (total === 0) return new Float64Array(vocabSize).fill(1 / vocabSize);
  const left = (discount * distinct) / vocabSize;
  return Float64Array.from(tokenCounts, (count) => (Math.max(count - discount, 0) + left) / total);
}

/**
 * A bigram with interpolated absolute discounting:
 * p(w | v) = max(c(v, w) - d, 0) / c(v) + d * N1+(v) / c(v) * p(w), where c(v) counts the pairs that start with v and
 * N1+(v) the different tokens after v. The unigram p(w) is discounted in the same way towards the uniform distribution.
 * After a token that no pair starts with, p(w | v) = p(w).
 *
 * @param trainTokens runs of token ids; no pair spans two runs.
 * @throws ConfigError if `vocabSize` is not a whole number from 1 to 2^24, or `discount` not between 0 and 1.
 * @throws DataError if an id is outside of the vocabulary.
 * Source: Ney, Essen, Kneser 1994, "On structuring probabilistic dependences in stochastic language modelling".
 */
export function bigramModel(
  trainTokens: Iterable<ArrayLike<number>>,
  vocabSize: number,
  { discount = 0.75 }: { readonly discount?: number } = {},
): BigramModel {
  if (!(Number.isInteger(vocabSize) && vocabSize >= 1 && vocabSize <= 2 ** 24)) {
    throw new ConfigError(`bigramModel: vocabSize is ${vocabSize}, must be a whole number from 1 to ${2 ** 24}`);
  }
  if (!(discount > 0 && discount < 1)) {
    throw new ConfigError(`bigramModel: discount is ${discount}, must be greater than 0 and less than 1`);
  }
  const firsts = new GrowingIds();
  const seconds = new GrowingIds();
  const tokenCounts = new Uint32Array(vocabSize);
  for (const run of trainTokens) {
    for (let index = 0; index < run.length; index++) {
      const token = run[index]!;
      checkId("bigramModel: training tokens", token, vocabSize);
      tokenCounts[token]! += 1;
      if (index === 0) continue;
      firsts.push(run[index - 1]!);
      seconds.push(token);
    }
  }
  const unigram = unigramProbabilities(tokenCounts, discount);
  const pairs = countPairs(firsts.ids, seconds.ids, vocabSize);

  function probability(previous: number | undefined, token: number): number {
    checkId("bigram", token, vocabSize);
    const single = unigram[token]!;
    if (previous === undefined) return single;
    checkId("bigram", previous, vocabSize);
    const total = pairs.totals[previous]!;
    if (total === 0) return single;
    const distinct = pairs.offsets[previous + 1]! - pairs.offsets[previous]!;
    return (Math.max(countOfPair(pairs, previous, token) - discount, 0) + discount * distinct * single) / total;
  }

  return {
    probability,
    nats(tokens) {
      let sum = 0;
      for (let index = 0; index < tokens.length; index++) {
        sum -= Math.log(probability(index === 0 ? undefined : tokens[index - 1]!, tokens[index]!));
      }
      return sum;
    },
  };
}
