/**
 * Random weights in their stored form, at the speed of the disk: the values of a block are random bits, and only its
 * scales are chosen, so that the weights have a given spread. No quantiser is needed, and any block is a valid one.
 */
import { type Cipher, createCipheriv, createHash } from "node:crypto";
import { f32ToBf16, f32ToF16 } from "../src/formats/halves.ts";
import { STORAGE_TYPES, type StorageType } from "../src/tensor/stored.ts";
import { createRandom, fillNormal } from "../src/util/random.ts";

/** Types that can be drawn. */
export const RANDOM_TYPES = ["F32", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"] as const satisfies readonly StorageType[];
export type RandomType = (typeof RANDOM_TYPES)[number];

/** Entries of the tables that scales and values are taken from. */
const SCALES = 256;
const VALUES = 2 ** 16;

/** The root mean square of uniform whole numbers. */
function rms(from: number, to: number): number {
  let squares = 0;
  for (let value = from; value <= to; value++) squares += value * value;
  return Math.sqrt(squares / (to - from + 1));
}

/** Where a type's f16 scales are in its block, and by how much they are below the spread of the weights. */
interface ScaleField {
  readonly offset: number;
  readonly unit: number;
}

/** Uniform 6-bit scales and 4-bit values: the spread of scale * value - minimum * 7.5 with equal f16 factors but 7.5. */
const Q4_K_SPREAD = Math.sqrt(
  rms(0, 63) ** 2 * rms(0, 15) ** 2 - 31.5 ** 2 * 7.5 ** 2 + 7.5 ** 2 * (rms(0, 63) ** 2 - 31.5 ** 2),
);

const SCALE_FIELDS: Readonly<Record<Exclude<RandomType, "F32" | "BF16">, readonly ScaleField[]>> = {
  // The least value is drawn as zero (see CENTRED): two zeros among 256, or 16, values.
  Q8_0: [{ offset: 0, unit: 1 / (rms(-127, 127) * Math.sqrt(255 / 256)) }],
  Q4_0: [{ offset: 0, unit: 1 / (rms(-7, 7) * Math.sqrt(15 / 16)) }],
  // The minimum's factor is such that the weights have a mean of zero.
  Q4_K: [
    { offset: 0, unit: 1 / Q4_K_SPREAD },
    { offset: 2, unit: 7.5 / Q4_K_SPREAD },
  ],
  Q6_K: [{ offset: 208, unit: 1 / (rms(-128, 127) * rms(-32, 31)) }],
};

/** Scales between a half and three halves of `middle`, in f16. */
function scaleTable(middle: number): Uint16Array {
  const scales = Float32Array.from({ length: SCALES }, (_, index) => middle * (0.5 + (index + 0.5) / SCALES));
  const halves = new Uint16Array(SCALES);
  f32ToF16(scales, halves);
  return halves;
}

/** An endless stream of bytes that a seed and a name decide. */
class RandomBytes {
  readonly #cipher: Cipher;

  constructor(seed: number, name: string) {
    const key = createHash("sha256").update(`${seed}/${name}`).digest();
    this.#cipher = createCipheriv("aes-128-ctr", key.subarray(0, 16), key.subarray(16));
  }

  take(count: number): Uint8Array {
    const bytes = this.#cipher.update(new Uint8Array(count));
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}

/** One matrix to draw. */
export interface RandomMatrix {
  readonly name: string;
  readonly type: RandomType;
  readonly rows: number;
  readonly columns: number;
  /** Standard deviation of the weights. */
  readonly deviation: number;
  /** Rows before the first and from the last on are zero. */
  readonly filled?: readonly [from: number, to: number] | undefined;
}

/** Bytes that are made at a time. */
const PIECE_BYTES = 8 * 2 ** 20;

/** The stored bytes of a matrix, whole rows at a time. */
export function* randomMatrix(matrix: RandomMatrix, seed: number): Generator<Uint8Array> {
  const { type, rows, columns, filled } = matrix;
  const { blockValues, blockBytes } = STORAGE_TYPES[type];
  const width = (columns / blockValues) * blockBytes;
  const fill = filler(matrix, seed);
  const most = Math.max(1, Math.floor(PIECE_BYTES / width));
  for (let row = 0; row < rows; row += most) {
    const count = Math.min(most, rows - row);
    const bytes = fill(count * columns);
    if (filled !== undefined) {
      bytes.fill(0, 0, Math.max(0, Math.min(count, filled[0] - row)) * width);
      bytes.fill(0, Math.max(0, Math.min(count, filled[1] - row)) * width);
    }
    yield bytes;
  }
}

/** Draws the next values of a matrix. */
function filler({ name, type, deviation }: RandomMatrix, seed: number): (values: number) => Uint8Array {
  if (type === "F32") {
    const random = createRandom(seed, name);
    return (values) => {
      const target = new Float32Array(values);
      fillNormal(target, random, deviation);
      return new Uint8Array(target.buffer);
    };
  }
  const random = new RandomBytes(seed, name);
  if (type === "BF16") return (values) => drawBf16(random.take(2 * values), deviation, seed);
  const { blockValues, blockBytes } = STORAGE_TYPES[type];
  // Uniform between a half and three halves, a scale has a root mean square of sqrt(13 / 12).
  const fields = SCALE_FIELDS[type].map(({ offset, unit }) => ({
    offset,
    scales: scaleTable((unit * deviation) / Math.sqrt(13 / 12)),
  }));
  const centred = CENTRED[type];
  return (values) => {
    const bytes = random.take((values / blockValues) * blockBytes);
    if (centred !== undefined) {
      for (let index = 0; index < bytes.length; index++) bytes[index] = centred[bytes[index] as number] as number;
    }
    for (const { offset, scales } of fields) {
      for (let block = 0; block < bytes.length; block += blockBytes) {
        // Scale and minimum of a block are drawn together, by its last byte: the mean of the weights stays zero.
        const scale = scales[bytes[block + blockBytes - 1] as number] as number;
        bytes[block + offset] = scale & 0xff;
        bytes[block + offset + 1] = scale >> 8;
      }
    }
    return bytes;
  };
}

/**
 * What a byte of random bits becomes, where all of its values would have a mean below zero: -128 becomes 0, and of two
 * 4-bit values each that is -8 does. A mean far below the spread would do already to make all rows of a product alike, and
 * with them, after some layers, the experts of all tokens.
 */
const CENTRED: Readonly<Partial<Record<RandomType, Uint8Array>>> = {
  Q8_0: Uint8Array.from({ length: 256 }, (_, byte) => (byte === 0x80 ? 0 : byte)),
  Q4_0: Uint8Array.from({ length: 256 }, (_, byte) => (byte & 0x0f || 0x08) | (byte & 0xf0 || 0x80)),
};

const bf16Tables = new Map<string, Uint16Array>();

/** Replaces pairs of random bytes by normal values: each is the number of an entry in a table of them. */
function drawBf16(bytes: Uint8Array, deviation: number, seed: number): Uint8Array {
  const key = `${seed}/${deviation}`;
  let table = bf16Tables.get(key);
  if (table === undefined) {
    const values = new Float32Array(VALUES);
    fillNormal(values, createRandom(seed, `bf16/${deviation}`), deviation);
    table = new Uint16Array(VALUES);
    f32ToBf16(values, table);
    bf16Tables.set(key, table);
  }
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  for (let index = 0; index < halves.length; index++) halves[index] = table[halves[index] as number] as number;
  return bytes;
}
