/**
 * Blocks of GGML's types and their values, bit by bit (ggml-common.h). A value is scale * level + offset; a level is a
 * whole number of a few bits, whose places in the block are listed here.
 */
import { STORAGE_TYPES, type StorageType } from "../../tensor/stored.ts";
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

/** Types whose values share a scale. */
export type QuantisedType = Exclude<StorageType, "F32" | "F16" | "BF16">;

/** Some bits of a number: `count` of them, from bit `from` of the number on, in `byte` of the block from `bit` on. */
interface Bits {
  readonly byte: number;
  readonly bit: number;
  readonly count: number;
  readonly from: number;
}

const bits = (byte: number, bit: number, count: number, from = 0): Bits => ({ byte, bit, count, from });

/** The number that is spread over these places. */
export function readBits(block: DataView, places: readonly Bits[]): number {
  return places.reduce(
    (value, { byte, bit, count, from }) => value | (((block.getUint8(byte) >> bit) & (2 ** count - 1)) << from),
    0,
  );
}

/** Adds a number to places that are zero. */
export function writeBits(block: DataView, places: readonly Bits[], value: number): void {
  for (const { byte, bit, count, from } of places) {
    block.setUint8(byte, block.getUint8(byte) | (((value >> from) & (2 ** count - 1)) << bit));
  }
}

/** Four bits of value i: 2 * apart values share `apart` bytes. */
const nibble = (at: number, apart: number, i: number) =>
  bits(at + Math.floor(i / (2 * apart)) * apart + (i % apart), i % (2 * apart) < apart ? 0 : 4, 4);
/** Two bits of value i of 256: 128 values share 32 bytes. */
const pair = (at: number, i: number, from: number) => bits(at + (i >> 7) * 32 + (i % 32), ((i >> 5) & 3) * 2, 2, from);
/** One bit of value i of 32, and of 256. */
const bit32 = (at: number, i: number) => bits(at + (i >> 3), i & 7, 1, 4);
const bit256 = (at: number, i: number, from: number) => bits(at + (i % 32), i >> 5, 1, from);

interface LevelPlaces {
  /** What the bits 0 stand for. */
  readonly lowest: number;
  readonly places: (i: number) => readonly Bits[];
}

/** Where the level of value i lies; Q8_0 has whole bytes. */
export const LEVELS: Readonly<Record<Exclude<QuantisedType, "Q8_0">, LevelPlaces>> = {
  Q4_0: { lowest: -8, places: (i) => [nibble(2, 16, i)] },
  Q4_1: { lowest: 0, places: (i) => [nibble(4, 16, i)] },
  Q5_0: { lowest: -16, places: (i) => [nibble(6, 16, i), bit32(2, i)] },
  Q5_1: { lowest: 0, places: (i) => [nibble(8, 16, i), bit32(4, i)] },
  Q2_K: { lowest: 0, places: (i) => [pair(16, i, 0)] },
  Q3_K: { lowest: -4, places: (i) => [pair(32, i, 0), bit256(0, i, 2)] },
  Q4_K: { lowest: 0, places: (i) => [nibble(16, 32, i)] },
  Q5_K: { lowest: 0, places: (i) => [nibble(48, 32, i), bit256(16, i, 4)] },
  Q6_K: { lowest: -32, places: (i) => [nibble(0, 64, i), pair(128, i, 4)] },
};

/** Places of the scale and the minimum of sub-block j of Q4_K and Q5_K, and of the scale of one of Q3_K. */
export const sixBitScale = (j: number) => (j < 4 ? [bits(4 + j, 0, 6)] : [bits(8 + j, 0, 4), bits(j, 6, 2, 4)]);
export const sixBitMinimum = (j: number) => (j < 4 ? [bits(8 + j, 0, 6)] : [bits(8 + j, 4, 4), bits(4 + j, 6, 2, 4)]);
export const signedScale = (j: number) => [
  bits(96 + (j % 8), j < 8 ? 0 : 4, 4),
  bits(104 + (j % 4), (j >> 2) * 2, 2, 4),
];

/** Scale and offset of all values of a sub-block. */
export interface Scaling {
  readonly scale: number;
  readonly offset: number;
}

/** The value of an f16 by its definition: sign, exponent, fraction. */
export function f16Value(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >> 10) & 31;
  const fraction = half & 0x3ff;
  if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

const f16At = (block: DataView, byte: number) => f16Value(block.getUint16(byte, true));

/** The scaling of sub-block j, or of the whole block in types of 32 values. All products are exact. */
export const SCALINGS: Readonly<Record<QuantisedType, (block: DataView, j: number) => Scaling>> = {
  Q8_0: (block) => ({ scale: f16At(block, 0), offset: 0 }),
  Q4_0: (block) => ({ scale: f16At(block, 0), offset: 0 }),
  Q4_1: (block) => ({ scale: f16At(block, 0), offset: f16At(block, 2) }),
  Q5_0: (block) => ({ scale: f16At(block, 0), offset: 0 }),
  Q5_1: (block) => ({ scale: f16At(block, 0), offset: f16At(block, 2) }),
  Q2_K: (block, j) => ({
    scale: f16At(block, 80) * (block.getUint8(j) & 15),
    offset: -f16At(block, 82) * (block.getUint8(j) >> 4),
  }),
  Q3_K: (block, j) => ({ scale: f16At(block, 108) * (readBits(block, signedScale(j)) - 32), offset: 0 }),
  Q4_K: sixBitScaling,
  Q5_K: sixBitScaling,
  Q6_K: (block, j) => ({ scale: f16At(block, 208) * block.getInt8(192 + j), offset: 0 }),
};

function sixBitScaling(block: DataView, j: number): Scaling {
  return {
    scale: f16At(block, 0) * readBits(block, sixBitScale(j)),
    offset: -f16At(block, 2) * readBits(block, sixBitMinimum(j)),
  };
}

/** Values of a block that share a scale. */
export const SUB_VALUES: Readonly<Record<QuantisedType, number>> = {
  Q8_0: 32,
  Q4_0: 32,
  Q4_1: 32,
  Q5_0: 32,
  Q5_1: 32,
  Q2_K: 16,
  Q3_K: 16,
  Q4_K: 32,
  Q5_K: 32,
  Q6_K: 16,
};

/** Types without an offset: where a level is 0, adding one would lose the sign of the zero. */
const isSymmetric = (type: QuantisedType) => !["Q4_1", "Q5_1", "Q2_K", "Q4_K", "Q5_K"].includes(type);

function quantisedValue(type: QuantisedType, block: DataView, i: number): number {
  const { scale, offset } = SCALINGS[type](block, Math.floor(i / SUB_VALUES[type]));
  const level = type === "Q8_0" ? block.getInt8(2 + i) : LEVELS[type].lowest + readBits(block, LEVELS[type].places(i));
  return isSymmetric(type) ? scale * level : scale * level + offset;
}

function storedValue(type: StorageType, block: DataView, i: number): number {
  if (type === "F32") return block.getFloat32(0, true);
  if (type === "F16") return f16At(block, 0);
  if (type === "BF16") {
    const widened = new DataView(new ArrayBuffer(4));
    widened.setUint16(0, block.getUint16(0, true));
    return widened.getFloat32(0);
  }
  return quantisedValue(type, block, i);
}

/** The type that has GGML's number `id`. */
export function storageTypeOf(id: number): StorageType {
  const type = (Object.keys(STORAGE_TYPES) as StorageType[]).find((name) => STORAGE_TYPES[name].id === id);
  if (type === undefined) throw new RangeError(`internal: storage type ${id}`);
  return type;
}

export function decodeRows(memory: Memory): Kernels["decodeRows"] {
  return (typeId, rowsAt, outAt, count, columns) => {
    const type = storageTypeOf(typeId);
    const { blockValues, blockBytes } = STORAGE_TYPES[type];
    const rows = memory.bytes(rowsAt);
    const out = memory.f32(outAt);
    for (let first = 0; first < count * columns; first += blockValues) {
      const block = new DataView(rows.buffer, rows.byteOffset + (first / blockValues) * blockBytes, blockBytes);
      for (let i = 0; i < blockValues; i++) out[first + i] = storedValue(type, block, i);
    }
  };
}
