/**
 * The safetensors format over bytes: 8 bytes of little-endian header length, a JSON header that gives each tensor's type,
 * shape and byte range, then the values, without holes. Nothing in a header is used before it is checked.
 * Format: https://github.com/huggingface/safetensors (README, section "Format").
 */
import { CheckpointError } from "../errors.ts";
import { formatShape } from "../tensor/tensor.ts";
import { bf16ToF32, f16ToF32 } from "./halves.ts";
import { isJsonObject, parseJson, quoted } from "./json.ts";

/** Bytes of one element, in the reference library's order, by which files are laid out (the last come first). */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;

export type SafetensorsDType = keyof typeof DTYPE_BYTES;

const DTYPE_ORDER = Object.keys(DTYPE_BYTES);

/** The reference library's limit on the header. */
const MAX_HEADER_BYTES = 100_000_000;

/** Bytes before the header. */
export const PREFIX_BYTES = 8;

const DAMAGED = { hint: "the file is damaged or was cut short: fetch or write it again" };

/** Where one tensor lies and what it holds. */
export interface TensorInfo {
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface SafetensorsHeader {
  /** In the order of the values in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Bytes of one element. */
export function dtypeBytes(dtype: SafetensorsDType): number {
  return DTYPE_BYTES[dtype];
}

/**
 * Length of the header that follows the first 8 bytes.
 * @param prefix the first bytes of the file, at least 8 where the file has them.
 * @param place the file, for messages.
 * @throws CheckpointError if the file is too short for the length it states, or the length is above 100 MB.
 */
export function headerBytes(prefix: Uint8Array, fileBytes: number, place: string): number {
  if (fileBytes < PREFIX_BYTES || prefix.byteLength < PREFIX_BYTES) {
    throw new CheckpointError(`${place}: ${fileBytes} bytes, a safetensors file has at least ${PREFIX_BYTES}`, DAMAGED);
  }
  const length = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    throw new CheckpointError(
      `${place}: a header of ${length} bytes, at most ${MAX_HEADER_BYTES} are allowed: not a safetensors file`,
    );
  }
  if (Number(length) > fileBytes - PREFIX_BYTES) {
    throw new CheckpointError(
      `${place}: a header of ${length} bytes, the file has ${fileBytes - PREFIX_BYTES} after its first 8`,
      DAMAGED,
    );
  }
  return Number(length);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** Bytes of a tensor; Infinity where they are beyond exact integers. */
function tensorBytes(dtype: SafetensorsDType, shape: readonly number[]): number {
  let bytes: number = DTYPE_BYTES[dtype];
  for (const dimension of shape) {
    bytes *= dimension;
    if (bytes > Number.MAX_SAFE_INTEGER) return Number.POSITIVE_INFINITY;
  }
  return bytes;
}

/** One entry of the header on its own. */
function parseEntry(name: string, entry: unknown, dataOffset: number, dataBytes: number, place: string): TensorInfo {
  const fail = (fault: string) => new CheckpointError(`${place}: tensor ${quoted(name)}: ${fault}`);
  if (!isJsonObject(entry)) throw fail(`${quoted(entry)}, expected an object`);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    throw fail(`dtype ${quoted(dtype)}, expected one of ${DTYPE_ORDER.join(", ")}`);
  }
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw fail(`shape ${quoted(shape)}, expected an array of non-negative integers`);
  }
  const [begin, end] = Array.isArray(offsets) && offsets.length === 2 ? offsets : [];
  if (!isCount(begin) || !isCount(end) || begin > end) {
    throw fail(`data_offsets ${quoted(offsets)}, expected [begin, end] with begin <= end`);
  }
  const expected = tensorBytes(dtype as SafetensorsDType, shape);
  if (end - begin !== expected) {
    const needs = expected === Number.POSITIVE_INFINITY ? "more than 2^53" : expected;
    throw fail(`data_offsets span ${end - begin} bytes, ${dtype} ${quoted(shape)} needs ${needs}`);
  }
  if (end > dataBytes) {
    const message = `${place}: tensor ${quoted(name)}: ends at byte ${end} of the values, the file has ${dataBytes}`;
    throw new CheckpointError(message, DAMAGED);
  }
  return { dtype: dtype as SafetensorsDType, shape, byteOffset: dataOffset + begin, byteLength: end - begin };
}

function parseMetadata(value: unknown, place: string): Map<string, string> {
  if (!isJsonObject(value)) throw new CheckpointError(`${place}: __metadata__ is ${quoted(value)}, expected an object`);
  const entries = Object.entries(value);
  const bad = entries.find(([, text]) => typeof text !== "string");
  if (bad !== undefined) {
    throw new CheckpointError(`${place}: __metadata__ ${quoted(bad[0])}: ${quoted(bad[1])}, expected a string`);
  }
  return new Map(entries as [string, string][]);
}

/**
 * Checks a header and gives the tensors it describes.
 * @param header the JSON bytes, without the 8 bytes before them.
 * @param fileBytes size of the whole file.
 * @param place the file, for messages.
 * @throws CheckpointError naming the first fault: not UTF-8 or JSON, a repeated or wrong entry, byte ranges that overlap,
 *   leave holes, or do not fill the file.
 */
export function parseHeader(header: Uint8Array, fileBytes: number, place: string): SafetensorsHeader {
  const result = parseJson(header, { maxDepth: 3 });
  if ("fault" in result) throw new CheckpointError(`${place}: header: ${result.fault}`, DAMAGED);
  if (!isJsonObject(result.value)) {
    throw new CheckpointError(`${place}: header: ${quoted(result.value)}, expected an object`);
  }
  const dataOffset = PREFIX_BYTES + header.byteLength;
  const found: [string, TensorInfo][] = [];
  let metadata = new Map<string, string>();
  for (const [name, entry] of Object.entries(result.value)) {
    if (name === "__metadata__") metadata = parseMetadata(entry, place);
    else found.push([name, parseEntry(name, entry, dataOffset, fileBytes - dataOffset, place)]);
  }
  found.sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  let end = dataOffset;
  for (const [name, info] of found) {
    if (info.byteOffset !== end) {
      const fault = info.byteOffset < end ? "overlaps the tensor before it" : "leaves a hole before it";
      throw new CheckpointError(
        `${place}: tensor ${quoted(name)}: ${fault}, begins at byte ${info.byteOffset - dataOffset}, expected ${end - dataOffset}`,
      );
    }
    end += info.byteLength;
  }
  if (end !== fileBytes) {
    throw new CheckpointError(`${place}: the tensors end at byte ${end}, the file has ${fileBytes}`, DAMAGED);
  }
  return { tensors: new Map(found), metadata };
}

/**
 * Checks a whole file in memory, such as one a page has fetched.
 * @throws CheckpointError as `headerBytes` and `parseHeader`.
 */
export function parseSafetensors(file: Uint8Array, place: string): SafetensorsHeader {
  const length = headerBytes(file, file.byteLength, place);
  return parseHeader(file.subarray(PREFIX_BYTES, PREFIX_BYTES + length), file.byteLength, place);
}

/** A tensor that is to be written. */
export interface TensorOutline {
  readonly name: string;
  readonly dtype: SafetensorsDType;
  readonly shape: readonly number[];
}

/**
 * Lays out a file as the reference library does: widest elements first, then by name, so that every tensor is aligned to
 * its element size.
 * @returns the bytes up to the first value (their count a multiple of 8), and the tensors in the order of their values.
 * @throws CheckpointError if two tensors share a name, or a name or shape can not be written.
 */
export function layOut<T extends TensorOutline>(
  tensors: Iterable<T>,
  metadata: Readonly<Record<string, string>> = {},
): { prefix: Uint8Array; tensors: T[] } {
  const ordered = [...tensors].sort(
    (a, b) => DTYPE_ORDER.indexOf(b.dtype) - DTYPE_ORDER.indexOf(a.dtype) || (a.name < b.name ? -1 : 1),
  );
  const header = new Map<string, unknown>();
  if (Object.keys(metadata).length > 0) header.set("__metadata__", metadata);
  let end = 0;
  for (const { name, dtype, shape } of ordered) {
    if (name === "__metadata__" || header.has(name)) {
      throw new CheckpointError(`safetensors: tensor ${quoted(name)}: the name is used twice or reserved`);
    }
    const bytes = tensorBytes(dtype, shape);
    if (!shape.every(isCount) || !Number.isSafeInteger(end + bytes)) {
      throw new CheckpointError(`safetensors: tensor ${quoted(name)}: shape ${formatShape(shape)} can not be stored`);
    }
    header.set(name, { dtype, shape, data_offsets: [end, end + bytes] });
    end += bytes;
  }
  // Written by hand because an object would reorder names that are numbers and lose "__proto__".
  const members = [...header].map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`);
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const length = Math.ceil(json.byteLength / 8) * 8;
  const prefix = new Uint8Array(PREFIX_BYTES + length).fill(0x20);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(length), true);
  prefix.set(json, PREFIX_BYTES);
  return { prefix, tensors: ordered };
}

/** Types whose values a model's weights may have. */
export type WeightDType = "F32" | "F16" | "BF16";

export function isWeightDType(dtype: SafetensorsDType): dtype is WeightDType {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/**
 * Decodes little-endian values to f32.
 * @param bytes as many whole elements as `target` has; for F16 and BF16 they begin at an even offset of their buffer.
 * @throws ShapeError if the lengths differ.
 */
export function decodeF32(bytes: Uint8Array, dtype: WeightDType, target: Float32Array): void {
  if (dtype === "F32") new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes);
  else {
    const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
    if (dtype === "F16") f16ToF32(halves, target);
    else bf16ToF32(halves, target);
  }
}
