/**
 * Reads models of fastText (Joulin et al. 2016, arXiv 1607.01759 and 1612.03651) from its own binary format, version 12.
 * Covered are models such as lid.176.ftz: pruned and quantised, with a hierarchical softmax over the labels.
 */
import { DataError } from "../../errors.ts";

const MAGIC = 793_712_314;
const VERSION = 12;
const HIERARCHICAL_SOFTMAX = 1;
const LABEL = "__label__";
/** Rows that numbers of 16 bits can tell apart. */
const MAX_ROWS = 0xffff;
/** Vectors that a quantiser has for each piece of a row. */
const CENTROIDS = 256;

/** One row after another. */
export interface Matrix {
  readonly width: number;
  readonly values: Float32Array;
}

/** What a file has of a model. */
export interface FastTextParts {
  /** Characters of the shortest and of the longest n-grams. */
  readonly shortest: number;
  readonly longest: number;
  /** Words with vectors, in UTF-8. The first is the end of a line, "</s>". */
  readonly words: readonly Uint8Array[];
  /** Without "__label__", from the most frequent in training to the least. */
  readonly labels: readonly string[];
  readonly labelCounts: readonly number[];
  /** By the hash of an n-gram, modulo its length: the n-gram's row in `input`, or 0 for none. */
  readonly ngramRows: Uint16Array;
  /** Vectors of the words, then of n-grams. */
  readonly input: Matrix;
  /** Vectors of the tree's inner nodes. */
  readonly output: Matrix;
}

/** Reads little-endian values one after the other. */
class Reader {
  #place = 0;
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    // A Buffer's slice would be no copy.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  bytes(count: number): Uint8Array<ArrayBuffer> {
    this.#place += count;
    if (!(count >= 0 && this.#place <= this.#bytes.length)) throw new DataError("model of fastText: ends early");
    return this.#bytes.slice(this.#place - count, this.#place);
  }

  byte(): number {
    return this.bytes(1)[0] as number;
  }

  int32s(count: number): Int32Array {
    return new Int32Array(this.bytes(4 * count).buffer);
  }

  int64(): number {
    return Number(new BigInt64Array(this.bytes(8).buffer)[0]);
  }

  float32s(count: number): Float32Array {
    return new Float32Array(this.bytes(4 * count).buffer);
  }

  /** Bytes up to a zero. */
  string(): Uint8Array {
    const text = this.bytes(this.#bytes.indexOf(0, this.#place) - this.#place);
    this.byte();
    return text;
  }
}

/** Of the settings in the file's head, those that a prediction needs. */
function readSettings(reader: Reader) {
  const [magic, version] = reader.int32s(2);
  if (magic !== MAGIC || version !== VERSION) throw new DataError(`not a model of fastText, version ${VERSION}`);
  const [, , , , , wordNgrams, loss, , buckets, shortest, longest] = reader.int32s(12);
  reader.bytes(8);
  return { wordNgrams, loss, buckets: buckets!, shortest: shortest!, longest: longest! };
}

function readDictionary(reader: Reader, buckets: number) {
  const [size, words] = reader.int32s(3) as Int32Array & [number, number];
  reader.int64();
  const kept = reader.int64();
  const entries = Array.from({ length: size }, () => {
    const [name, count] = [reader.string(), reader.int64()];
    reader.byte();
    return { name, count };
  });
  const ngramRows = new Uint16Array(buckets);
  const pairs = reader.int32s(2 * Math.max(0, kept));
  for (let pair = 0; pair < pairs.length; pair += 2) ngramRows[pairs[pair]!] = words + pairs[pair + 1]!;
  return { words: entries.slice(0, words).map(({ name }) => name), labels: entries.slice(words), kept, ngramRows };
}

/** The vectors of a quantiser whose pieces are equally wide. */
function readCentroids(reader: Reader): Float32Array {
  const [width, , usual, last] = reader.int32s(4);
  if (usual !== last) throw new DataError("model of fastText: rows in unequal pieces, expected equal ones");
  return reader.float32s(width! * CENTROIDS);
}

/** A quantised matrix as the numbers that its codes stand for. */
function readQuantised(reader: Reader): Matrix {
  const normed = reader.byte() === 1;
  const [rows, width] = [reader.int64(), reader.int64()];
  const codes = reader.bytes(reader.int32s(1)[0]!);
  const centroids = readCentroids(reader);
  const normCodes = normed ? reader.bytes(rows) : new Uint8Array(rows);
  const norms = normed ? readCentroids(reader) : [1];
  const pieces = codes.length / rows;
  const pieceWidth = width / pieces;
  const values = new Float32Array(rows * width);
  for (let place = 0; place < values.length; place++) {
    const [code, within] = [Math.floor(place / pieceWidth), place % pieceWidth];
    const row = Math.floor(code / pieces);
    const centroid = (code % pieces) * CENTROIDS + codes[code]!;
    values[place] = norms[normCodes[row]!]! * centroids[centroid * pieceWidth + within]!;
  }
  return { width, values };
}

function readMatrix(reader: Reader): Matrix {
  const [rows, width] = [reader.int64(), reader.int64()];
  return { width, values: reader.float32s(rows * width) };
}

/**
 * Reads a model.
 * @throws DataError for anything else than a model of the covered kind.
 */
export function readFastText(bytes: Uint8Array): FastTextParts {
  const reader = new Reader(bytes);
  const { wordNgrams, loss, buckets, shortest, longest } = readSettings(reader);
  const { words, labels, kept, ngramRows } = readDictionary(reader, buckets);
  const quantised = reader.byte() === 1;
  const few = kept > 0 && words.length + kept <= MAX_ROWS;
  if (wordNgrams !== 1 || loss !== HIERARCHICAL_SOFTMAX || shortest < 2 || !few || !quantised) {
    throw new DataError(
      `model of fastText: expected a quantised one, pruned to ${MAX_ROWS} rows, of single words and n-grams of two characters and more, with hierarchical softmax`,
    );
  }
  const input = readQuantised(reader);
  if (reader.byte() === 1) throw new DataError("model of fastText: the output is quantised, expected numbers");
  return {
    shortest,
    longest,
    words,
    labels: labels.map(({ name }) => new TextDecoder().decode(name).slice(LABEL.length)),
    labelCounts: labels.map(({ count }) => count),
    ngramRows,
    input,
    output: readMatrix(reader),
  };
}
