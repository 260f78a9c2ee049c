/**
 * Values on their way from one stored form to another, a piece at a time: the type changed, rows and columns exchanged, the
 * parts of a joined tensor one after another.
 */
import { CheckpointError } from "../errors.ts";
import { STORAGE_TYPES, type StorageType } from "../tensor/stored.ts";
import { shapeSize } from "../tensor/tensor.ts";
import { f32ToBf16, f32ToF16 } from "./halves.ts";
import { type LaidTensor, type PlacedSlice, staysF32 } from "./layout.ts";
import { decodeF32, isWeightDType, type WeightDType } from "./safetensors.ts";

/** Types that values are written in. */
export type FloatType = WeightDType;

/** Values that are converted at a time. */
const PIECE_VALUES = 2 ** 20;

/** Decodes whole rows of blocks. */
export type DecodeBlocks = (type: StorageType, bytes: Uint8Array, target: Float32Array) => void;

/** Where values come from. */
export interface ValueSource {
  /** The file or folder, for messages. */
  readonly path: string;
  readonly slices: ReadonlyMap<string, PlacedSlice>;
  read(slice: PlacedSlice, target: Uint8Array, start?: number): Promise<void>;
}

export interface ConversionOptions {
  /** For blocks of quantised values; without it they are refused. */
  readonly decode?: DecodeBlocks | undefined;
  readonly signal?: AbortSignal | undefined;
}

export function isFloatType(type: StorageType): type is FloatType {
  return isWeightDType(type as FloatType);
}

function sliceOf(source: ValueSource, name: string): PlacedSlice {
  const slice = source.slices.get(name);
  if (slice === undefined) throw new Error(`internal: no tensor ${name}`);
  return slice;
}

function decode(type: StorageType, bytes: Uint8Array, { path }: ValueSource, options: ConversionOptions): Float32Array {
  const { blockBytes, blockValues } = STORAGE_TYPES[type];
  const values = new Float32Array((bytes.byteLength / blockBytes) * blockValues);
  if (isFloatType(type)) decodeF32(bytes, type, values);
  else if (options.decode !== undefined) options.decode(type, bytes, values);
  else throw new CheckpointError(`${path}: tensors of type ${type} can not be converted`);
  return values;
}

/** Stored bytes of values. @throws CheckpointError for one that is finite and would not stay so. */
function encode(values: Float32Array, type: FloatType, name: string, { path }: ValueSource): Uint8Array {
  if (type === "F32") return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const halves = new Uint16Array(values.length);
  (type === "F16" ? f32ToF16 : f32ToBf16)(values, halves);
  const infinite = type === "F16" ? 0x7c00 : 0x7f80;
  const bad = halves.findIndex((half, index) => (half & 0x7fff) === infinite && Number.isFinite(values[index]));
  if (bad >= 0) {
    throw new CheckpointError(`${path}: ${name}: element ${bad} is ${values[bad]}, not finite as ${type}`, {
      hint: "choose another --type: f32 holds every value, bf16 all but the largest",
    });
  }
  return new Uint8Array(halves.buffer);
}

/** Exchanges rows and columns of a stored matrix. */
function transpose(bytes: Uint8Array, rows: number, columns: number, width: number): Uint8Array {
  const target = new Uint8Array(bytes.byteLength);
  const elements = (part: Uint8Array) =>
    width === 4 ? new Uint32Array(part.buffer, part.byteOffset) : new Uint16Array(part.buffer, part.byteOffset);
  const [from, to] = [elements(bytes), elements(target)];
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) to[column * rows + row] = from[row * columns + column] as number;
  }
  return target;
}

/** A matrix whose rows and columns are exchanged on the way, as a whole. */
async function turnedSlice(
  source: ValueSource,
  name: string,
  type: FloatType,
  options: ConversionOptions,
): Promise<Uint8Array> {
  const slice = sliceOf(source, name);
  const [rows = 1, columns = 1] = slice.transposed ? slice.shape.toReversed() : slice.shape;
  const bytes = new Uint8Array(slice.byteLength);
  await source.read(slice, bytes);
  const stored = slice.type === type ? bytes : encode(decode(slice.type, bytes, source, options), type, name, source);
  return transpose(stored, rows, columns, STORAGE_TYPES[type].blockBytes);
}

/** Bytes of a slice in pieces, its type changed where it is another. */
async function* straightSlice(
  source: ValueSource,
  name: string,
  type: StorageType,
  options: ConversionOptions,
): AsyncGenerator<Uint8Array> {
  const slice = sliceOf(source, name);
  const { blockBytes, blockValues } = STORAGE_TYPES[slice.type];
  const columns = slice.shape.at(-1) ?? 1;
  const rowBytes = (columns / blockValues) * blockBytes;
  const pieceBytes = Math.max(1, Math.floor(PIECE_VALUES / columns)) * rowBytes;
  for (let done = 0; done < slice.byteLength; done += pieceBytes) {
    options.signal?.throwIfAborted();
    const bytes = new Uint8Array(Math.min(pieceBytes, slice.byteLength - done));
    await source.read(slice, bytes, done);
    yield slice.type === type
      ? bytes
      : encode(decode(slice.type, bytes, source, options), type as FloatType, name, source);
  }
}

/**
 * The bytes of a stored tensor, made of where its slices are now.
 * @param type another than that of its slices only if it is F32, F16 or BF16.
 * @throws CheckpointError for a value that the type can not hold, and quantised values without a decoder.
 */
export async function* convertedBytes(
  source: ValueSource,
  tensor: LaidTensor,
  type: StorageType,
  options: ConversionOptions = {},
): AsyncGenerator<Uint8Array> {
  for (const { name, transposed } of tensor.slices) {
    options.signal?.throwIfAborted();
    if (sliceOf(source, name).transposed === transposed) yield* straightSlice(source, name, type, options);
    else yield await turnedSlice(source, name, type as FloatType, options);
  }
  // A tensor that consists of nothing is all zeros.
  if (tensor.slices.length === 0) {
    yield new Uint8Array(shapeSize(tensor.shape) * STORAGE_TYPES[type].blockBytes);
  }
}

/** The type that the matrices of a model have, the most frequent one where there are several. */
export function matrixType(source: ValueSource): StorageType {
  const values = new Map<StorageType, number>();
  for (const [name, { type, shape }] of source.slices) {
    if (!staysF32(name, shape)) values.set(type, (values.get(type) ?? 0) + shapeSize(shape));
  }
  const ordered = [...values].sort(([, a], [, b]) => b - a);
  return ordered[0]?.[0] ?? "F32";
}

/** The common type of a tensor's slices; undefined where there are several. */
function commonType(source: ValueSource, tensor: LaidTensor): StorageType | undefined {
  const types = new Set(tensor.slices.map(({ name }) => sliceOf(source, name).type));
  return types.size === 1 ? [...types][0] : undefined;
}

/** Whether all values of a small tensor are the same in a narrower type. */
async function isExact(
  source: ValueSource,
  tensor: LaidTensor,
  type: FloatType,
  options: ConversionOptions,
): Promise<boolean> {
  for (const { name } of tensor.slices) {
    const slice = sliceOf(source, name);
    const bytes = new Uint8Array(slice.byteLength);
    await source.read(slice, bytes);
    const values = decode(slice.type, bytes, source, options);
    const halves = new Uint16Array(values.length);
    (type === "F16" ? f32ToF16 : f32ToBf16)(values, halves);
    const again = new Float32Array(values.length);
    decodeF32(new Uint8Array(halves.buffer), type, again);
    if (!values.every((value, index) => Object.is(value, again[index]))) return false;
  }
  return true;
}

/**
 * The type in which a GGUF file gets a tensor: vectors and routers are f32, matrices as asked for or as they are.
 * @param wanted undefined: nothing is to be lost.
 */
export function ggufType(source: ValueSource, tensor: LaidTensor, wanted: FloatType | undefined): StorageType {
  if (tensor.slices.every(({ name, shape }) => staysF32(name, shape))) return "F32";
  return wanted ?? commonType(source, tensor) ?? "F32";
}

/**
 * The type in which a safetensors file gets a tensor. Where nothing is asked for, nothing is lost: what is f32 among
 * matrices of a narrower type, as norms and routers of GGUF files are, is narrowed only if every value stays what it is.
 */
export async function safetensorsType(
  source: ValueSource,
  tensor: LaidTensor,
  wanted: FloatType | undefined,
  options: ConversionOptions,
): Promise<FloatType> {
  if (wanted !== undefined) return wanted;
  const common = commonType(source, tensor);
  if (common === undefined || !isFloatType(common)) return "F32";
  const usual = matrixType(source);
  if (common !== "F32" || usual === "F32" || !isFloatType(usual)) return common;
  if (!tensor.slices.every(({ name, shape }) => staysF32(name, shape))) return common;
  return (await isExact(source, tensor, usual, options)) ? usual : "F32";
}
