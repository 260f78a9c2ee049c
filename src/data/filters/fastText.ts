/**
 * Classification of text as fastText does it: a text is the mean of the vectors of its words and of their n-grams of
 * characters, whose rows a hash tells, and a tree of yes-or-no questions about that mean leads to a label.
 */
import { type FastTextParts, readFastText } from "./fastTextFile.ts";
import { HASH_SEED, step, tableSize } from "./hash.ts";

/** The word that fastText puts behind a text. */
const LINE_END = 0;
const [SPACE, WORD_START, WORD_END] = [32, 60, 62];
/** What fastText adds to the probability of each answer, so that its logarithm is finite. */
const LEAST = 1e-5;

export interface Prediction {
  readonly label: string;
  /** From 0 to 1. */
  readonly probability: number;
}

/** Hash of some bytes, which count with their sign, as in fastText. */
function hashBytes(bytes: Int8Array, start: number, end: number): number {
  let hash = HASH_SEED;
  for (let place = start; place < end; place++) hash = step(hash, bytes[place] as number);
  return hash;
}

function sameBytes(a: Int8Array, start: number, b: Int8Array, from: number, length: number): boolean {
  for (let index = 0; index < length; index++) if (a[start + index] !== b[from + index]) return false;
  return true;
}

/** White space between words: zero, tab to carriage return, and the space. */
function isSpace(byte: number): boolean {
  return byte <= SPACE && (byte === SPACE || byte === 0 || (byte >= 9 && byte <= 13));
}

/** Words in a table by their bytes. */
class Vocabulary {
  readonly #bytes: Int8Array;
  /** Of each word: where its bytes start; one more entry for the end. */
  readonly #starts: Int32Array;
  /** By hash, with open addressing: one more than a word, or 0. */
  readonly #table: Int32Array;

  constructor(words: readonly Uint8Array[]) {
    this.#starts = new Int32Array(words.length + 1);
    for (const [word, { length }] of words.entries()) this.#starts[word + 1] = this.#starts[word]! + length;
    this.#bytes = new Int8Array(this.#starts[words.length]!);
    this.#table = new Int32Array(tableSize(words.length));
    for (const [word, bytes] of words.entries()) {
      const [start, end] = [this.#starts[word]!, this.#starts[word + 1]!];
      this.#bytes.set(bytes, start);
      this.#table[this.#slot(this.#bytes, start, end)] = word + 1;
    }
  }

  /** The word that has these bytes; -1 for none. */
  find(bytes: Int8Array, start: number, end: number): number {
    return this.#table[this.#slot(bytes, start, end)]! - 1;
  }

  /** Where a word is, or would go. */
  #slot(bytes: Int8Array, start: number, end: number): number {
    const mask = this.#table.length - 1;
    let slot = hashBytes(bytes, start, end) & mask;
    for (;;) {
      const word = this.#table[slot]! - 1;
      if (word < 0) return slot;
      const from = this.#starts[word]!;
      const length = this.#starts[word + 1]! - from;
      if (length === end - start && sameBytes(bytes, start, this.#bytes, from, length)) return slot;
      slot = (slot + 1) & mask;
    }
  }
}

/** Children of the inner nodes of Huffman's tree, in pairs; nodes below the number of labels are labels, from the most frequent. */
function huffmanTree(labelCounts: readonly number[]): Int32Array {
  const labels = labelCounts.length;
  const counts = [...labelCounts, ...new Array<number>(labels - 1).fill(Number.POSITIVE_INFINITY)];
  const children = new Int32Array(2 * (labels - 1));
  let [leaf, inner] = [labels - 1, labels];
  const next = () => (leaf >= 0 && counts[leaf]! < counts[inner]! ? leaf-- : inner++);
  for (let node = labels; node < counts.length; node++) {
    const [left, right] = [next(), next()];
    children.set([left, right], 2 * (node - labels));
    counts[node] = counts[left]! + counts[right]!;
  }
  return children;
}

/** A model in memory. Predictions share arrays, so one is over before the next. */
export class FastTextModel {
  readonly labels: readonly string[];
  readonly #parts: FastTextParts;
  readonly #vocabulary: Vocabulary;
  /** Vectors of words, then of n-grams. Here a word has its n-grams' vectors added to its own. */
  readonly #vectors: Float32Array;
  /** Of each word: how many vectors were added up. */
  readonly #wordCounts: Int32Array;
  /** A bit for each hash: whether an n-gram has a row. Few have, and unlike the rows' numbers this fits into a cache. */
  readonly #hasRow: Int32Array;
  readonly #children: Int32Array;
  readonly #encoder = new TextEncoder();
  /** A text in UTF-8, as bytes and with their signs. */
  #encoded = new Uint8Array(0);
  #bytes = new Int8Array(0);
  /** Rows of a text, and how many vectors they stand for. */
  #rows = new Int32Array(0);
  #size = 0;
  #count = 0;
  readonly #mean: Float64Array;
  /** Of the search for a label. */
  #best = 0;
  #bestProbability = 0;

  /** @throws DataError for a file that is not a model of the kinds that fastTextFile.ts reads. */
  constructor(file: Uint8Array) {
    const parts = readFastText(file);
    const { words, labels, labelCounts, ngramRows, input } = parts;
    const { width } = input;
    this.labels = labels;
    this.#parts = parts;
    this.#vocabulary = new Vocabulary(words);
    this.#children = huffmanTree(labelCounts);
    this.#hasRow = new Int32Array(Math.ceil(ngramRows.length / 32));
    for (const [hash, row] of ngramRows.entries()) if (row > 0) this.#hasRow[hash >>> 5]! |= 1 << (hash & 31);
    this.#mean = new Float64Array(width);
    this.#vectors = input.values;
    this.#wordCounts = new Int32Array(words.length);
    for (const [word, bytes] of words.entries()) {
      this.#start(bytes.length);
      this.#encoded.set(bytes, 1);
      this.#rows[this.#size++] = word;
      if (word !== LINE_END) this.#addNgrams(1, bytes.length + 1);
      this.#sumRows();
      this.#vectors.set(this.#mean, word * width);
      this.#wordCounts[word] = this.#size;
    }
  }

  /** The most probable label of a text, whose ends of lines are white space; undefined where no word or n-gram is known. */
  predict(text: string): Prediction | undefined {
    this.#start(3 * text.length);
    const { written } = this.#encoder.encodeInto(text, this.#encoded.subarray(1));
    const bytes = this.#bytes;
    const end = written + 1;
    bytes[end] = SPACE;
    let start = 1;
    for (let place = 1; place <= end; place++) {
      if (!isSpace(bytes[place] as number)) continue;
      if (place > start) this.#addWord(start, place);
      start = place + 1;
    }
    if (this.#size === 0) return undefined;
    this.#addKnown(LINE_END);
    this.#sumRows();
    const { length } = this.#mean;
    for (let index = 0; index < length; index++) this.#mean[index]! /= this.#count;
    this.#bestProbability = 0;
    this.#search(2 * this.labels.length - 2, 1);
    return { label: this.labels[this.#best]!, probability: Math.min(1, this.#bestProbability) };
  }

  /** Makes room for so many bytes, with one before and two after them, and for the rows of their n-grams and words. */
  #start(length: number): void {
    this.#size = 0;
    this.#count = 0;
    if (length + 3 <= this.#encoded.length) return;
    this.#encoded = new Uint8Array(2 * (length + 3));
    this.#bytes = new Int8Array(this.#encoded.buffer);
    this.#rows = new Int32Array((this.#parts.longest + 1) * this.#encoded.length);
  }

  #addWord(start: number, end: number): void {
    const word = this.#vocabulary.find(this.#bytes, start, end);
    if (word >= 0) this.#addKnown(word);
    else this.#addNgrams(start, end);
  }

  #addKnown(word: number): void {
    this.#rows[this.#size++] = word;
    this.#count += this.#wordCounts[word]!;
  }

  /** Adds the n-grams of a word with a mark at either end, which take the place of the bytes around it. */
  #addNgrams(start: number, end: number): void {
    const [bytes, rows, hasRow] = [this.#bytes, this.#rows, this.#hasRow];
    const { shortest, longest, ngramRows } = this.#parts;
    const buckets = ngramRows.length >>> 0;
    const before = this.#size;
    let size = before;
    bytes[start - 1] = WORD_START;
    bytes[end] = WORD_END;
    for (let first = start - 1; first <= end; first++) {
      if (continues(bytes[first] as number)) continue;
      let hash = HASH_SEED;
      let place = first;
      for (let characters = 1; characters <= longest && place <= end; characters++) {
        do hash = step(hash, bytes[place++] as number);
        while (place <= end && continues(bytes[place] as number));
        if (characters < shortest) continue;
        // Without the last shift, which changes nothing, V8 would divide floating-point numbers.
        const bucket = ((hash >>> 0) % buckets) >>> 0;
        if (((hasRow[bucket >>> 5]! >>> (bucket & 31)) & 1) === 1) rows[size++] = ngramRows[bucket]!;
      }
    }
    this.#size = size;
    this.#count += size - before;
  }

  #sumRows(): void {
    const [rows, size, mean, vectors] = [this.#rows, this.#size, this.#mean, this.#vectors];
    const { length } = mean;
    for (let index = 0; index < length; index++) {
      let sum = 0;
      for (let place = 0; place < size; place++) sum += vectors[rows[place]! * length + index]!;
      mean[index] = sum;
    }
  }

  /** Goes through the tree, without the branches that can not lead to a better label. */
  #search(node: number, probability: number): void {
    if (probability <= this.#bestProbability) return;
    const inner = node - this.labels.length;
    if (inner < 0) {
      this.#best = node;
      this.#bestProbability = probability;
      return;
    }
    const mean = this.#mean;
    const { width, values } = this.#parts.output;
    let product = 0;
    for (let index = 0; index < width; index++) product += mean[index]! * values[inner * width + index]!;
    const right = 1 / (1 + Math.exp(-product));
    this.#search(this.#children[2 * inner]!, probability * (1 - right + LEAST));
    this.#search(this.#children[2 * inner + 1]!, probability * (right + LEAST));
  }
}

/** Whether a byte of UTF-8 goes on with a character. */
function continues(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}
