/**
 * The GGUF format over bytes, versions 2 and 3: counts, metadata, a table of tensors, then their values at aligned
 * offsets. Nothing in a header is used before it is checked. Shapes are given in the usual order, slowest dimension first;
 * files hold them the other way round.
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
 */
import { CheckpointError } from "../errors.ts";
import { rowBytes, STORAGE_TYPES, type StorageType } from "../tensor/stored.ts";
import { formatShape, shapeSize } from "../tensor/tensor.ts";
import { GgufCursor, type GgufValue, GgufWriter, MoreBytesNeeded, padding } from "./ggufValues.ts";
import { quoted } from "./json.ts";

export type { GgufArray, GgufValue, GgufValueType } from "./ggufValues.ts";

/** "GGUF" as a little-endian number. */
const MAGIC = 0x46554747;
const VERSION = 3;
export const DEFAULT_ALIGNMENT = 32;
export const ALIGNMENT_KEY = "general.alignment";
const MAX_ALIGNMENT = 2 ** 20;
const MAX_DIMENSIONS = 4;
/** Names as llama.cpp takes them. */
const MAX_NAME_BYTES = 63;
/** Each entry costs an object; the largest known models have a few thousand tensors. */
const MAX_ENTRIES = 65_536;

/** Types by their numbers in the format. */
const TYPES_BY_ID: ReadonlyMap<number, StorageType> = new Map(
  Object.entries(STORAGE_TYPES).map(([type, { id }]) => [id, type as StorageType]),
);

/** Types that the format knows and that are not read, by number, for the message. */
const OTHER_TYPES: Readonly<Record<number, string>> = {
  9: "Q8_1",
  15: "Q8_K",
  16: "IQ2_XXS",
  17: "IQ2_XS",
  18: "IQ3_XXS",
  19: "IQ1_S",
  20: "IQ4_NL",
  21: "IQ3_S",
  22: "IQ2_S",
  23: "IQ4_XS",
  24: "I8",
  25: "I16",
  26: "I32",
  27: "I64",
  28: "F64",
  29: "IQ1_M",
  34: "TQ1_0",
  35: "TQ2_0",
  39: "MXFP4",
};

/** Where one tensor lies and what it holds. */
export interface GgufTensorInfo {
  readonly type: StorageType;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly alignment: number;
  /** In the order of the file. */
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In the order of the file's table. */
  readonly tensors: ReadonlyMap<string, GgufTensorInfo>;
}

/** Bytes of a tensor in a type. @throws ShapeError for a row that does not end with a block. */
export function storedBytes(type: StorageType, shape: readonly number[]): number {
  const columns = shape.at(-1) ?? 1;
  return rowBytes(type, columns) * shapeSize(shape.slice(0, -1));
}

function readVersion(cursor: GgufCursor): number {
  const magic = cursor.u32("magic number");
  if (magic !== MAGIC) {
    const found = magic.toString(16).padStart(8, "0");
    throw cursor.fail("magic number", `0x${found}, expected 0x${MAGIC.toString(16)}: not a GGUF file`);
  }
  const version = cursor.u32("version");
  if (version === 2 || version === 3) return version;
  const swapped = version !== 0 && (version & 0xffff) === 0;
  throw cursor.fail(
    "version",
    swapped
      ? "stored with its bytes the other way round (big-endian), which is not read"
      : `${version}, expected 2 or 3`,
    { hint: "convert the model again with a present converter, on a little-endian machine" },
  );
}

function entryCount(cursor: GgufCursor, leastBytes: number, what: string, things: string): number {
  const count = cursor.count(leastBytes, what, things);
  if (count > MAX_ENTRIES) throw cursor.fail(what, `${count} ${things}, at most ${MAX_ENTRIES} are allowed`);
  return count;
}

function readMetadata(cursor: GgufCursor, count: number): Map<string, GgufValue> {
  const metadata = new Map<string, GgufValue>();
  for (let index = 0; index < count; index++) {
    const key = cursor.key(`metadata key ${index}`);
    const what = `metadata ${quoted(key)}`;
    if (metadata.has(key)) throw cursor.fail(what, "the key is used twice");
    metadata.set(key, cursor.value(what));
  }
  return metadata;
}

/** A tensor whose place is still counted from the start of the values. */
interface TableEntry extends Omit<GgufTensorInfo, "byteOffset"> {
  readonly name: string;
  readonly offset: bigint;
}

function readShape(cursor: GgufCursor, what: string): number[] {
  const dimensions = cursor.u32(what);
  if (dimensions > MAX_DIMENSIONS) {
    throw cursor.fail(what, `${dimensions} dimensions, at most ${MAX_DIMENSIONS} are allowed`);
  }
  const shape = Array.from({ length: dimensions }, () => cursor.u64(what));
  let values = 1n;
  for (const size of shape) {
    if (size === 0n) throw cursor.fail(what, `shape [${shape.toReversed().join(", ")}], has a dimension of 0`);
    values *= size;
  }
  if (values > Number.MAX_SAFE_INTEGER) {
    throw cursor.fail(what, `shape [${shape.toReversed().join(", ")}], has more than 2^53 values`);
  }
  return shape.map(Number).reverse();
}

function readEntry(cursor: GgufCursor, index: number): TableEntry {
  const name = cursor.key(`name of tensor ${index}`);
  const what = `tensor ${quoted(name)}`;
  const shape = readShape(cursor, what);
  const id = cursor.u32(what);
  const type = TYPES_BY_ID.get(id);
  if (type === undefined) {
    const other = OTHER_TYPES[id];
    throw cursor.fail(what, `type ${other === undefined ? id : `${other} (${id})`}, which is not read`, {
      hint: `readable types are ${Object.keys(STORAGE_TYPES).join(", ")}`,
    });
  }
  const { blockValues } = STORAGE_TYPES[type];
  if ((shape.at(-1) ?? 1) % blockValues !== 0) {
    throw cursor.fail(what, `shape ${formatShape(shape)}, rows of ${type} are multiples of ${blockValues} values`);
  }
  return { name, type, shape, byteLength: storedBytes(type, shape), offset: cursor.u64(what) };
}

function readAlignment(cursor: GgufCursor, metadata: ReadonlyMap<string, GgufValue>): number {
  const given = metadata.get(ALIGNMENT_KEY);
  if (given === undefined) return DEFAULT_ALIGNMENT;
  const what = `metadata "${ALIGNMENT_KEY}"`;
  if (given.type !== "UINT32") throw cursor.fail(what, `type ${given.type}, expected UINT32`);
  const { value } = given;
  if (value < 1 || value > MAX_ALIGNMENT || (value & (value - 1)) !== 0) {
    throw cursor.fail(what, `${value}, expected a power of two up to ${MAX_ALIGNMENT}`);
  }
  return value;
}

/** Turns offsets into places in the file, which lie inside it and apart from each other. */
function placeTensors(
  cursor: GgufCursor,
  entries: ReadonlyMap<string, TableEntry>,
  alignment: number,
  fileBytes: number,
): Map<string, GgufTensorInfo> {
  const dataOffset = cursor.offset + padding(cursor.offset, alignment);
  const tensors = new Map<string, GgufTensorInfo>();
  for (const [name, { type, shape, byteLength, offset }] of entries) {
    const what = `tensor ${quoted(name)}`;
    if (offset % BigInt(alignment) !== 0n) {
      throw cursor.fail(what, `begins at byte ${offset} of the values, expected a multiple of ${alignment}`);
    }
    const end = BigInt(dataOffset) + offset + BigInt(byteLength);
    if (end > BigInt(fileBytes)) {
      throw cursor.fail(what, `ends at byte ${end}, the file has ${fileBytes}`, {
        hint: "the file is damaged or was cut short: fetch or write it again",
      });
    }
    tensors.set(name, { type, shape, byteOffset: dataOffset + Number(offset), byteLength });
  }
  const ordered = [...tensors].sort(([, a], [, b]) => a.byteOffset - b.byteOffset);
  for (const [index, [name, { byteOffset }]] of ordered.entries()) {
    const before = ordered[index - 1];
    if (before === undefined || before[1].byteOffset + before[1].byteLength <= byteOffset) continue;
    throw cursor.fail(`tensor ${quoted(name)}`, `overlaps ${quoted(before[0])}, which ends behind its first byte`);
  }
  return tensors;
}

/**
 * Checks a header and gives what it says.
 * @param bytes the first bytes of the file, or all of it.
 * @param fileBytes size of the whole file.
 * @param place the file, for messages.
 * @returns the header, or how many bytes from the start are needed at least to read on.
 * @throws CheckpointError naming the first fault: counts, lengths or offsets beyond the file, repeated names, text that is
 *   not UTF-8, types that are not read, tensors that overlap or are not aligned.
 */
export function parseGguf(
  bytes: Uint8Array,
  fileBytes: number,
  place: string,
): GgufHeader | { readonly neededBytes: number } {
  const cursor = new GgufCursor(bytes, fileBytes, place);
  try {
    const version = readVersion(cursor);
    const tensorCount = entryCount(cursor, 25, "number of tensors", "tensors");
    const metadata = readMetadata(cursor, entryCount(cursor, 14, "number of metadata keys", "keys"));
    const alignment = readAlignment(cursor, metadata);
    const entries = new Map<string, TableEntry>();
    for (let index = 0; index < tensorCount; index++) {
      const entry = readEntry(cursor, index);
      if (entries.has(entry.name)) throw cursor.fail(`tensor ${quoted(entry.name)}`, "the name is used twice");
      entries.set(entry.name, entry);
    }
    return { version, alignment, metadata, tensors: placeTensors(cursor, entries, alignment, fileBytes) };
  } catch (error) {
    if (error instanceof MoreBytesNeeded) return { neededBytes: error.bytes };
    throw error;
  }
}

/** A tensor that is to be written. */
export interface GgufTensorOutline {
  readonly name: string;
  readonly type: StorageType;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
}

export interface GgufLayout<T> {
  /** The bytes up to the first value. */
  readonly prefix: Uint8Array;
  /** The tensors with their places in the file, each followed by zeros up to a multiple of the alignment. */
  readonly tensors: readonly { readonly tensor: T; readonly byteOffset: number; readonly byteLength: number }[];
  readonly alignment: number;
  readonly fileBytes: number;
}

function checkOutline({ name, type, shape }: GgufTensorOutline): void {
  const what = `gguf: tensor ${quoted(name)}`;
  const nameBytes = new TextEncoder().encode(name).byteLength;
  if (nameBytes < 1 || nameBytes > MAX_NAME_BYTES) {
    throw new CheckpointError(`${what}: a name of ${nameBytes} bytes, expected 1 to ${MAX_NAME_BYTES}`);
  }
  const { blockValues } = STORAGE_TYPES[type];
  const storable =
    shape.length <= MAX_DIMENSIONS &&
    shape.every((size) => Number.isSafeInteger(size) && size > 0) &&
    Number.isSafeInteger(shapeSize(shape)) &&
    (shape.at(-1) ?? 1) % blockValues === 0;
  if (!storable) throw new CheckpointError(`${what}: shape ${formatShape(shape)} can not be stored as ${type}`);
}

/**
 * Lays out a file of version 3, tensors in the given order.
 * @param metadata in the given order; `general.alignment` sets the alignment, which is 32 without it.
 * @throws CheckpointError for a name that is used twice or too long, and a shape or number that can not be written.
 */
export function layOutGguf<T extends GgufTensorOutline>(
  metadata: ReadonlyMap<string, GgufValue>,
  tensors: Iterable<T>,
): GgufLayout<T> {
  const outlines = [...tensors];
  const given = metadata.get(ALIGNMENT_KEY);
  const alignment = given?.type === "UINT32" ? given.value : DEFAULT_ALIGNMENT;
  const writer = new GgufWriter();
  writer.u32(MAGIC);
  writer.u32(VERSION);
  writer.u64(outlines.length);
  writer.u64(metadata.size);
  for (const [key, value] of metadata) {
    writer.string(key);
    writer.value(value, `metadata ${quoted(key)}`);
  }
  const names = new Set<string>();
  const placed: { tensor: T; offset: number; byteLength: number }[] = [];
  let end = 0;
  for (const tensor of outlines) {
    const { name, type, shape } = tensor;
    checkOutline(tensor);
    if (names.has(name)) throw new CheckpointError(`gguf: tensor ${quoted(name)}: the name is used twice`);
    names.add(name);
    const byteLength = storedBytes(type, shape);
    writer.string(name);
    writer.u32(shape.length);
    for (const size of shape.toReversed()) writer.u64(size);
    writer.u32(STORAGE_TYPES[type].id);
    writer.u64(end);
    placed.push({ tensor, offset: end, byteLength });
    end += byteLength + padding(byteLength, alignment);
  }
  writer.pad(alignment);
  const prefix = writer.finish();
  const start = prefix.byteLength;
  return {
    prefix,
    tensors: placed.map(({ tensor, offset, byteLength }) => ({ tensor, byteOffset: start + offset, byteLength })),
    alignment,
    fileBytes: start + end,
  };
}
