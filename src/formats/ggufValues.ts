/**
 * Metadata values of GGUF: thirteen types, arrays of them, and arrays of arrays. A `GgufCursor` reads them from bytes of
 * which nothing is believed before it is checked against the size of the file; a `GgufWriter` writes them.
 */
import { CheckpointError } from "../errors.ts";
import { quoted } from "./json.ts";

/** In the order of their numbers in the format. */
const VALUE_TYPES = [
  "UINT8",
  "INT8",
  "UINT16",
  "INT16",
  "UINT32",
  "INT32",
  "FLOAT32",
  "BOOL",
  "STRING",
  "ARRAY",
  "UINT64",
  "INT64",
  "FLOAT64",
] as const;

export type GgufValueType = (typeof VALUE_TYPES)[number];
type NumberType = "UINT8" | "INT8" | "UINT16" | "INT16" | "UINT32" | "INT32" | "FLOAT32" | "FLOAT64";
type BigType = "UINT64" | "INT64";

/** Arrays of booleans hold 0 and 1. */
export type GgufArray =
  | { readonly type: "ARRAY"; readonly of: NumberType | "BOOL"; readonly value: ArrayLike<number> }
  | { readonly type: "ARRAY"; readonly of: BigType; readonly value: ArrayLike<bigint> }
  | { readonly type: "ARRAY"; readonly of: "STRING"; readonly value: readonly string[] }
  | { readonly type: "ARRAY"; readonly of: "ARRAY"; readonly value: readonly GgufArray[] };

export type GgufValue =
  | { readonly type: NumberType; readonly value: number }
  | { readonly type: BigType; readonly value: bigint }
  | { readonly type: "BOOL"; readonly value: boolean }
  | { readonly type: "STRING"; readonly value: string }
  | GgufArray;

const ELEMENT_BYTES: Readonly<Record<Exclude<GgufValueType, "STRING" | "ARRAY">, number>> = {
  UINT8: 1,
  INT8: 1,
  UINT16: 2,
  INT16: 2,
  UINT32: 4,
  INT32: 4,
  FLOAT32: 4,
  BOOL: 1,
  UINT64: 8,
  INT64: 8,
  FLOAT64: 8,
};

const NUMBER_ARRAYS = {
  UINT8: Uint8Array,
  INT8: Int8Array,
  UINT16: Uint16Array,
  INT16: Int16Array,
  UINT32: Uint32Array,
  INT32: Int32Array,
  FLOAT32: Float32Array,
  BOOL: Uint8Array,
  FLOAT64: Float64Array,
} as const;

/** A header beyond this is no header; those of the largest known vocabularies take a fifth of it. */
const MAX_HEADER_BYTES = 100_000_000;
const MAX_DEPTH = 4;
/** Each array within an array costs an object. */
const MAX_INNER_ARRAYS = 65_536;
const MAX_KEY_BYTES = 65_535;

const DAMAGED = { hint: "the file is damaged or was cut short: fetch or write it again" };

/** What is thrown where a header goes on behind the bytes at hand; never leaves this room. */
export class MoreBytesNeeded {
  /** Bytes from the start of the file. */
  readonly bytes: number;

  constructor(bytes: number) {
    this.bytes = bytes;
  }
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Reads little-endian values one after another. */
export class GgufCursor {
  offset = 0;
  readonly place: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #fileBytes: number;
  #innerArrays = 0;

  /** @param bytes the first bytes of a file of `fileBytes`. */
  constructor(bytes: Uint8Array, fileBytes: number, place: string) {
    // A Node Buffer's slices would not be copies.
    this.#bytes = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#fileBytes = fileBytes;
    this.place = place;
  }

  fail(what: string, fault: string, details: { readonly hint?: string } = {}): CheckpointError {
    return new CheckpointError(`${this.place}: ${what}: ${fault}`, details);
  }

  /** Moves on by `count` bytes that are there, and gives where they begin. */
  take(count: number, what: string): number {
    const start = this.offset;
    const end = start + count;
    if (end > this.#fileBytes) {
      throw this.fail(what, `ends at byte ${end}, the file has ${this.#fileBytes}`, DAMAGED);
    }
    if (end > MAX_HEADER_BYTES) {
      throw this.fail(what, `ends at byte ${end}, a header has at most ${MAX_HEADER_BYTES} bytes`);
    }
    if (end > this.#bytes.byteLength) throw new MoreBytesNeeded(end);
    this.offset = end;
    return start;
  }

  u32(what: string): number {
    return this.#view.getUint32(this.take(4, what), true);
  }

  u64(what: string): bigint {
    return this.#view.getBigUint64(this.take(8, what), true);
  }

  /** A number of things that take at least `bytesEach` bytes each, so that the file bounds it. */
  count(bytesEach: number, what: string, things: string): number {
    const count = this.u64(what);
    const rest = this.#fileBytes - this.offset;
    if (count * BigInt(bytesEach) > BigInt(rest)) {
      throw this.fail(what, `${count} ${things}, the file has ${rest} bytes after their number`, DAMAGED);
    }
    if (BigInt(this.offset) + count * BigInt(bytesEach) > MAX_HEADER_BYTES) {
      throw this.fail(what, `${count} ${things}, a header has at most ${MAX_HEADER_BYTES} bytes`);
    }
    return Number(count);
  }

  string(what: string, maxBytes = MAX_HEADER_BYTES): string {
    const length = this.count(1, what, "bytes of text");
    if (length > maxBytes) throw this.fail(what, `${length} bytes of text, at most ${maxBytes} are allowed`);
    const start = this.take(length, what);
    try {
      return utf8.decode(this.#bytes.subarray(start, start + length));
    } catch {
      throw this.fail(what, "not valid UTF-8", DAMAGED);
    }
  }

  key(what: string): string {
    const key = this.string(what, MAX_KEY_BYTES);
    if (key === "") throw this.fail(what, "an empty name");
    return key;
  }

  /** A metadata value with its type. */
  value(what: string): GgufValue {
    const type = this.#valueType(what);
    switch (type) {
      case "STRING":
        return { type, value: this.string(what) };
      case "ARRAY":
        return this.#array(what, 1);
      case "BOOL":
        return { type, value: this.#numbers(type, 1, what)[0] === 1 };
      case "UINT64":
      case "INT64":
        return { type, value: this.#bigs(type, 1, what)[0] as bigint };
      default:
        return { type, value: this.#numbers(type, 1, what)[0] as number };
    }
  }

  #valueType(what: string): GgufValueType {
    const id = this.u32(what);
    const type = VALUE_TYPES[id];
    if (type === undefined) throw this.fail(what, `type ${id}, expected 0 to ${VALUE_TYPES.length - 1}`);
    return type;
  }

  #array(what: string, depth: number): GgufArray {
    const of = this.#valueType(what);
    switch (of) {
      case "STRING":
        return { type: "ARRAY", of, value: this.#strings(this.count(8, what, "texts"), what) };
      case "ARRAY":
        return { type: "ARRAY", of, value: this.#arrays(this.count(12, what, "arrays"), what, depth) };
      case "UINT64":
      case "INT64":
        return { type: "ARRAY", of, value: this.#bigs(of, this.count(8, what, "elements"), what) };
      default:
        return { type: "ARRAY", of, value: this.#numbers(of, this.count(ELEMENT_BYTES[of], what, "elements"), what) };
    }
  }

  #arrays(count: number, what: string, depth: number): GgufArray[] {
    if (depth >= MAX_DEPTH) throw this.fail(what, `arrays nested more than ${MAX_DEPTH} deep`);
    this.#innerArrays += count;
    if (this.#innerArrays > MAX_INNER_ARRAYS) {
      throw this.fail(what, `${count} arrays within arrays, at most ${MAX_INNER_ARRAYS} are allowed in all`);
    }
    return Array.from({ length: count }, (_, index) => this.#array(`${what}[${index}]`, depth + 1));
  }

  #copy(type: keyof typeof ELEMENT_BYTES, count: number, what: string): ArrayBuffer {
    const start = this.take(count * ELEMENT_BYTES[type], what);
    return this.#bytes.slice(start, this.offset).buffer as ArrayBuffer;
  }

  #numbers(type: NumberType | "BOOL", count: number, what: string): ArrayLike<number> {
    const values = new NUMBER_ARRAYS[type](this.#copy(type, count, what));
    if (type === "BOOL") {
      const bad = values.findIndex((value: number) => value > 1);
      if (bad >= 0) throw this.fail(what, `a boolean of ${values[bad]}, expected 0 or 1`, DAMAGED);
    }
    return values;
  }

  #bigs(type: BigType, count: number, what: string): ArrayLike<bigint> {
    const buffer = this.#copy(type, count, what);
    return type === "UINT64" ? new BigUint64Array(buffer) : new BigInt64Array(buffer);
  }

  /**
   * All texts of an array, decoded at once: a vocabulary has tens of thousands, and each call of a decoder costs more than
   * the few bytes it is given.
   */
  #strings(count: number, what: string): string[] {
    const first = this.offset;
    const lengths = new Uint32Array(count);
    let total = 0;
    for (let index = 0; index < count; index++) {
      const at = this.take(8, what);
      const length = this.#view.getUint32(at, true) + this.#view.getUint32(at + 4, true) * 2 ** 32;
      this.take(length, what);
      lengths[index] = length;
      total += length;
    }
    const packed = new Uint8Array(total);
    let [from, to] = [first, 0];
    let valid = true;
    for (const length of lengths) {
      from += 8;
      // Texts that are cut inside a character would join to a valid one.
      if (length > 0 && isContinuation(this.#bytes[from])) valid = false;
      packed.set(this.#bytes.subarray(from, from + length), to);
      from += length;
      to += length;
    }
    const texts = valid ? splitText(packed, lengths) : undefined;
    return texts ?? this.#stringsOneByOne(first, count, what);
  }

  /** The slow way, which names the text that is not UTF-8. */
  #stringsOneByOne(first: number, count: number, what: string): string[] {
    this.offset = first;
    return Array.from({ length: count }, (_, index) => this.string(`${what}[${index}]`));
  }
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}

/** Texts of the given lengths in bytes; undefined where they are not UTF-8. */
function splitText(packed: Uint8Array, lengths: Uint32Array): string[] | undefined {
  let joined: string;
  try {
    joined = utf8.decode(packed);
  } catch {
    return undefined;
  }
  const texts = new Array<string>(lengths.length);
  let [byte, unit] = [0, 0];
  for (let index = 0; index < lengths.length; index++) {
    const start = unit;
    for (const end = byte + (lengths[index] as number); byte < end; byte++) {
      const value = packed[byte] as number;
      // Characters of four bytes are two UTF-16 units, all others one.
      if (!isContinuation(value)) unit += value >= 0xf0 ? 2 : 1;
    }
    texts[index] = joined.slice(start, unit);
  }
  return texts;
}

/** Collects little-endian values. */
export class GgufWriter {
  #bytes = new Uint8Array(2 ** 16);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  u32(value: number): void {
    const at = this.#grow(4);
    this.#view.setUint32(at, value, true);
  }

  u64(value: number | bigint): void {
    const at = this.#grow(8);
    this.#view.setBigUint64(at, BigInt(value), true);
  }

  string(text: string): void {
    const bytes = new TextEncoder().encode(text);
    this.u64(bytes.byteLength);
    const at = this.#grow(bytes.byteLength);
    this.#bytes.set(bytes, at);
  }

  /** A value with its type. @throws CheckpointError for a number outside the range of its type. */
  value(value: GgufValue, what: string): void {
    this.u32(VALUE_TYPES.indexOf(value.type));
    if (value.type === "ARRAY") this.#array(value, what);
    else if (value.type === "STRING") this.string(value.value);
    else this.#element(value.type, value.type === "BOOL" ? Number(value.value) : value.value, what);
  }

  /** Zeros up to a multiple of `alignment`. */
  pad(alignment: number): void {
    this.#grow(padding(this.#length, alignment));
  }

  finish(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }

  #array(array: GgufArray, what: string): void {
    this.u32(VALUE_TYPES.indexOf(array.of));
    this.u64(array.value.length);
    for (let index = 0; index < array.value.length; index++) {
      if (array.of === "STRING") this.string(array.value[index] as string);
      else if (array.of === "ARRAY") this.#array(array.value[index] as GgufArray, what);
      else this.#element(array.of, array.value[index] as number | bigint, what);
    }
  }

  #element(type: keyof typeof ELEMENT_BYTES, value: number | bigint, what: string): void {
    const bytes = ELEMENT_BYTES[type];
    const at = this.#grow(bytes);
    if (type === "FLOAT32") this.#view.setFloat32(at, Number(value), true);
    else if (type === "FLOAT64") this.#view.setFloat64(at, Number(value), true);
    else {
      const signed = type.startsWith("INT");
      const number = typeof value === "bigint" || Number.isInteger(value) ? BigInt(value) : undefined;
      const bits = 8 * bytes;
      if (number === undefined || number !== (signed ? BigInt.asIntN(bits, number) : BigInt.asUintN(bits, number))) {
        throw new CheckpointError(`gguf: ${what}: ${quoted(String(value))} is outside the range of ${type}`);
      }
      const low = BigInt.asUintN(64, number);
      for (let byte = 0; byte < bytes; byte++) this.#bytes[at + byte] = Number((low >> BigInt(8 * byte)) & 255n);
    }
  }

  /** Makes room and gives where it begins. */
  #grow(count: number): number {
    const start = this.#length;
    this.#length += count;
    if (this.#length > this.#bytes.byteLength) {
      const larger = new Uint8Array(Math.max(2 * this.#bytes.byteLength, this.#length));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return start;
  }
}

/** Bytes from `offset` up to the next multiple of `alignment`. */
export function padding(offset: number, alignment: number): number {
  return (alignment - (offset % alignment)) % alignment;
}
