/**
 * Quantising by the steps of GGML's reference quantisers (ggml-quants.c, no importance weights), one sub-block at a time.
 * Every step is rounded to f32, as theirs are: `f` is that rounding.
 */
import { STORAGE_TYPES, type StorageType } from "../../tensor/stored.ts";
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";
import {
  LEVELS,
  type QuantisedType,
  SCALINGS,
  SUB_VALUES,
  signedScale,
  sixBitMinimum,
  sixBitScale,
  storageTypeOf,
  writeBits,
} from "./storage.ts";

const f = Math.fround;

/** Product and sum of f32, each rounded. */
const times = (a: number, b: number) => f(a * b);
const plus = (a: number, b: number) => f(a + b);

const scratch = new DataView(new ArrayBuffer(4));

function bitsOf(x: number): number {
  scratch.setFloat32(0, x);
  return scratch.getUint32(0);
}

/** To nearest, ties to even. */
function toEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 !== 0) ? floor + 1 : floor;
}

/** Bits of the nearest f16: its steps are 2^-24 for subnormals, else 1024 to a power of two. */
export function f16Bits(x: number): number {
  const sign = (bitsOf(x) >>> 16) & 0x8000;
  const size = Math.abs(x);
  if (Number.isNaN(size)) return sign | 0x7e00 | ((bitsOf(x) >>> 13) & 0x3ff);
  if (size >= 65_520) return sign | 0x7c00;
  const exponent = Math.max(-14, size === 0 ? -14 : Math.floor(Math.log2(size)));
  // A fraction that rounds up to the next power of two carries into the exponent by itself.
  return sign | (toEven(size / 2 ** (exponent - 10)) + (exponent + 14) * 1024);
}

/** Bits of the nearest bfloat16. */
export function bf16Bits(x: number): number {
  const bits = bitsOf(x);
  if (Number.isNaN(x)) return (bits >>> 16) | 0x40;
  return toEven(bits / 65_536) & 0xffff;
}

/** GGML's nearest_int: the lower bits of x + 1.5 * 2^23. */
function nearest(x: number): number {
  return (bitsOf(plus(x, 12_582_912)) & 0x7fffff) - 0x400000;
}

const clamp = (x: number, low: number, high: number) => Math.min(Math.max(x, low), high);

/** Of what may be not-a-number, where a scale is too small for its inverse to be finite: that is the highest. */
const clampLevel = (x: number, low: number, high: number) => (x < high ? Math.max(x, low) : high);

/** What a sub-block's search gives: a scale, what its values are lowered by, and their levels, counted from 0. */
interface Fit {
  readonly scale: number;
  readonly minimum: number;
  readonly levels: readonly number[];
}

type Values = readonly number[];

/** The value of largest magnitude, the first of equal ones; 0 where all are. */
const extremeOf = (x: Values) => x.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
const inverseOf = (scale: number) => (scale === 0 ? 0 : f(1 / scale));

// ---- blocks of 32 --------------------------------------------------------------------------------------------------

function fitSigned(x: Values, levels: number): Fit {
  const scale = f(extremeOf(x) / -levels);
  const inverse = inverseOf(scale);
  const level = (value: number) => Math.trunc(clampLevel(plus(times(value, inverse), levels + 0.5), 0, 2 * levels - 1));
  return { scale, minimum: 0, levels: x.map(level) };
}

function fitSpread(x: Values, levels: number): Fit {
  let least = x[0]!;
  // Not Math.min, to which -0 is less than 0: of equal values the first one's sign is kept.
  for (const value of x) if (value < least) least = value;
  const scale = f(f(Math.max(...x) - least) / levels);
  const inverse = inverseOf(scale);
  const level = (value: number) => Math.trunc(clampLevel(plus(times(f(value - least), inverse), 0.5), 0, levels));
  return { scale, minimum: -least, levels: x.map(level) };
}

function fitBytes(x: Values): Fit {
  const scale = f(Math.abs(extremeOf(x)) / 127);
  const inverse = inverseOf(scale);
  const level = (value: number) => {
    const exact = clampLevel(times(value, inverse), -127, 127);
    return Math.sign(exact) * Math.round(Math.abs(exact));
  };
  return { scale, minimum: 0, levels: x.map(level) };
}

// ---- scale and minimum: Q2_K, Q4_K, Q5_K ---------------------------------------------------------------------------

interface RangeSearch {
  readonly levels: number;
  readonly first: number;
  readonly steps: number;
  readonly error: "absolute" | "squared";
}

function rangeError(x: Values, weights: Values, levels: Values, line: readonly [number, number], search: RangeSearch) {
  const [scale, offset] = line;
  return x.reduce((sum, value, i) => {
    const difference = f(plus(times(scale, levels[i]!), offset) - value);
    const size = search.error === "absolute" ? Math.abs(difference) : times(difference, difference);
    return plus(sum, times(weights[i]!, size));
  }, 0);
}

/** The weighted least-squares line through levels; undefined where they are all one. */
function leastSquares(x: Values, weights: Values, levels: Values): readonly [number, number] | undefined {
  const total = (term: (w: number, l: number, value: number) => number) =>
    x.reduce((sum, value, i) => plus(sum, term(weights[i]!, levels[i]!, value)), 0);
  const w = total((weight) => weight);
  const wx = total((weight, _, value) => times(weight, value));
  const wl = total(times);
  const wll = total((weight, level) => times(times(weight, level), level));
  const wlx = total((weight, level, value) => times(times(weight, level), value));
  const determinant = f(times(w, wll) - times(wl, wl));
  if (!(determinant > 0)) return undefined;
  const offset = f(f(times(wll, wx) - times(wl, wlx)) / determinant);
  if (offset > 0) return [f(wlx / wll), 0];
  return [f(f(times(w, wlx) - times(wx, wl)) / determinant), offset];
}

function fitRange(x: Values, weights: Values, search: RangeSearch): Fit {
  const least = Math.min(0, ...x);
  const most = Math.max(...x);
  if (most === least) return { scale: 0, minimum: -least, levels: x.map(() => 0) };
  const levelsAt = (inverse: number, base: number) =>
    x.map((value) => clamp(nearest(times(inverse, f(value - base))), 0, search.levels));
  const inverse = f(search.levels / f(most - least));
  let line: readonly [number, number] = [f(1 / inverse), least];
  let levels = levelsAt(inverse, least);
  let best = rangeError(x, weights, levels, line, search);
  for (let step = 0; step <= search.steps; step++) {
    const count = plus(plus(search.first, times(f(0.1), step)), search.levels);
    const trial = levelsAt(f(count / f(most - line[1])), line[1]);
    const trialLine = leastSquares(x, weights, trial);
    if (trialLine === undefined) continue;
    const error = rangeError(x, weights, trial, trialLine, search);
    if (error < best) [best, line, levels] = [error, trialLine, trial];
  }
  return { scale: line[0], minimum: -line[1], levels };
}

function fitWeighted(x: Values, search: RangeSearch): Fit {
  const root = f(Math.sqrt(f(x.reduce((sum, value) => plus(sum, times(value, value)), 0) / x.length)));
  return fitRange(
    x,
    x.map((value) => plus(root, Math.abs(value))),
    search,
  );
}

// ---- scale alone: Q3_K, Q6_K ---------------------------------------------------------------------------------------

const LEAST_MAGNITUDE = f(1e-15);

/** Sums of w x l and w l l, where w = x^2. */
function projection(x: Values, levels: Values): [x: number, square: number] {
  const term = (value: number, i: number) => {
    const [w, l] = [times(value, value), levels[i]!];
    return [times(times(w, value), l), times(times(w, l), l)] as const;
  };
  return x.reduce<[number, number]>(
    ([sum, square], value, i) => {
      const [first, second] = term(value, i);
      return [plus(sum, first), plus(square, second)];
    },
    [0, 0],
  );
}

function fitOneByOne(x: Values): Fit {
  const extreme = extremeOf(x);
  if (Math.abs(extreme) < LEAST_MAGNITUDE) return { scale: 0, minimum: 0, levels: x.map(() => 0) };
  const inverse = f(-4 / extreme);
  const levels = x.map((value) => clamp(nearest(times(inverse, value)), -4, 3));
  let [sum, square] = projection(x, levels);
  for (let round = 0; round < 5; round++) {
    for (const [i, value] of x.entries()) {
      const [w, old] = [times(value, value), levels[i]!];
      const restSum = f(sum - times(times(w, value), old));
      if (!(restSum > 0)) continue;
      const restSquare = f(square - times(times(w, old), old));
      const level = clamp(nearest(f(times(value, restSquare) / restSum)), -4, 3);
      if (level === old) continue;
      const newSum = plus(restSum, times(times(w, value), level));
      const newSquare = plus(restSquare, times(times(w, level), level));
      const better = times(times(newSum, newSum), square) > times(times(sum, sum), newSquare);
      if (newSquare > 0 && better) [levels[i], sum, square] = [level, newSum, newSquare];
    }
  }
  return { scale: square > 0 ? f(sum / square) : 0, minimum: 0, levels: levels.map((level) => level + 4) };
}

function fitBestOf19(x: Values): Fit {
  const extreme = extremeOf(x);
  if (Math.abs(extreme) < LEAST_MAGNITUDE) return { scale: 0, minimum: 0, levels: x.map(() => 0) };
  const levelsAt = (inverse: number) => x.map((value) => clamp(nearest(times(inverse, value)), -32, 31));
  let levels = levelsAt(f(-32 / extreme));
  let [sum, square] = projection(x, levels);
  let scale = square === 0 ? 0 : f(sum / square);
  let best = times(scale, sum);
  for (const step of [-9, -8, -7, -6, -5, -4, -3, -2, -1, 1, 2, 3, 4, 5, 6, 7, 8, 9]) {
    const trial = levelsAt(f(-plus(32, times(f(0.1), step)) / extreme));
    [sum, square] = projection(x, trial);
    if (!(square > 0 && times(sum, sum) > times(best, square))) continue;
    levels = trial;
    scale = f(sum / square);
    best = times(scale, sum);
  }
  return { scale, minimum: 0, levels: levels.map((level) => level + 32) };
}

const FITS: Readonly<Record<QuantisedType, (x: Values) => Fit>> = {
  Q8_0: fitBytes,
  Q4_0: (x) => fitSigned(x, 8),
  Q4_1: (x) => fitSpread(x, 15),
  Q5_0: (x) => fitSigned(x, 16),
  Q5_1: (x) => fitSpread(x, 31),
  Q2_K: (x) => fitRange(x, x.map(Math.abs), { levels: 3, first: -0.5, steps: 15, error: "absolute" }),
  Q3_K: fitOneByOne,
  Q4_K: (x) => fitWeighted(x, { levels: 15, first: -1, steps: 20, error: "squared" }),
  Q5_K: (x) => fitWeighted(x, { levels: 31, first: -0.5, steps: 15, error: "squared" }),
  Q6_K: fitBestOf19,
};

// ---- scales as stored ----------------------------------------------------------------------------------------------

/** Writes units and sub-block scales of at most `most` units into a block of zeros. */
type WriteScales = (block: DataView, fits: readonly Fit[]) => void;

const setF16 = (block: DataView, byte: number, x: number) => block.setUint16(byte, f16Bits(x), true);

const oneScale: WriteScales = (block, fits) => setF16(block, 0, fits[0]!.scale);
const scaleAndOffset: WriteScales = (block, fits) => {
  setF16(block, 0, fits[0]!.scale);
  setF16(block, 2, -fits[0]!.minimum);
};

/** Numbers in units of the largest / most, and that unit. */
function inUnits(values: Values, most: number): { unit: number; counts: number[] } {
  const largest = Math.max(0, ...values);
  if (largest === 0) return { unit: 0, counts: values.map(() => 0) };
  const inverse = f(most / largest);
  return { unit: f(largest / most), counts: values.map((value) => nearest(times(inverse, value))) };
}

const nibbleScales: WriteScales = (block, fits) => {
  const scales = inUnits(
    fits.map(({ scale }) => scale),
    15,
  );
  const minima = inUnits(
    fits.map(({ minimum }) => minimum),
    15,
  );
  for (const [j, count] of scales.counts.entries()) block.setUint8(j, count | (minima.counts[j]! << 4));
  setF16(block, 80, scales.unit);
  setF16(block, 82, minima.unit);
};

const sixBitScales: WriteScales = (block, fits) => {
  const scales = inUnits(
    fits.map(({ scale }) => scale),
    63,
  );
  const minima = inUnits(
    fits.map(({ minimum }) => minimum),
    63,
  );
  for (let j = 0; j < 8; j++) {
    writeBits(block, sixBitScale(j), Math.min(63, scales.counts[j]! & 255));
    writeBits(block, sixBitMinimum(j), Math.min(63, minima.counts[j]! & 255));
  }
  setF16(block, 0, scales.unit);
  setF16(block, 2, minima.unit);
};

const signedScales: WriteScales = (block, fits) => {
  const extreme = extremeOf(fits.map(({ scale }) => scale));
  if (extreme === 0) return;
  const inverse = f(-32 / extreme);
  for (const [j, { scale }] of fits.entries()) {
    writeBits(block, signedScale(j), clamp(nearest(times(inverse, scale)), -32, 31) + 32);
  }
  setF16(block, 108, f(1 / inverse));
};

const byteScales: WriteScales = (block, fits) => {
  const extreme = extremeOf(fits.map(({ scale }) => scale));
  if (Math.abs(extreme) < LEAST_MAGNITUDE) return;
  const inverse = f(-128 / extreme);
  for (const [j, { scale }] of fits.entries()) block.setInt8(192 + j, Math.min(127, nearest(times(inverse, scale))));
  setF16(block, 208, f(1 / inverse));
};

const WRITE_SCALES: Readonly<Record<QuantisedType, WriteScales>> = {
  Q8_0: oneScale,
  Q4_0: oneScale,
  Q4_1: scaleAndOffset,
  Q5_0: oneScale,
  Q5_1: scaleAndOffset,
  Q2_K: nibbleScales,
  Q3_K: signedScales,
  Q4_K: sixBitScales,
  Q5_K: sixBitScales,
  Q6_K: byteScales,
};

// ---- levels as stored ----------------------------------------------------------------------------------------------

const LEVEL_COUNTS: Partial<Record<QuantisedType, number>> = { Q2_K: 4, Q3_K: 8, Q4_K: 16, Q5_K: 32, Q6_K: 64 };

/** Levels for the scales as the decoder reads them; where one is 0, the search's stay. */
function storedLevels(type: QuantisedType, block: DataView, x: Values, fit: Fit, j: number): Values {
  const count = LEVEL_COUNTS[type];
  if (count === undefined || type === "Q8_0") return fit.levels;
  const { scale, offset } = SCALINGS[type](block, j);
  if (scale === 0) return fit.levels;
  const { lowest } = LEVELS[type];
  return x.map((value) => clamp(nearest(f(plus(value, -offset) / scale)), lowest, lowest + count - 1) - lowest);
}

function encodeBlock(type: QuantisedType, block: DataView, x: Values): void {
  const size = SUB_VALUES[type];
  const parts = Array.from({ length: x.length / size }, (_, j) => x.slice(j * size, (j + 1) * size));
  const fits = parts.map(FITS[type]);
  WRITE_SCALES[type](block, fits);
  // A block of Q6_K whose scales are all 0 has no levels.
  if (type === "Q6_K" && parts.every((_, j) => block.getInt8(192 + j) === 0)) return;
  const levels = parts.flatMap((part, j) => storedLevels(type, block, part, fits[j]!, j));
  for (const [i, level] of levels.entries()) {
    if (type === "Q8_0") block.setInt8(2 + i, level);
    else writeBits(block, LEVELS[type].places(i), level);
  }
}

function encodeValue(type: StorageType, block: DataView, x: number): void {
  if (type === "F32") block.setFloat32(0, x, true);
  else block.setUint16(0, type === "F16" ? f16Bits(x) : bf16Bits(x), true);
}

export function encodeRows(memory: Memory): Kernels["encodeRows"] {
  return (typeId, xAt, rowsAt, count, columns) => {
    const type = storageTypeOf(typeId);
    const { blockValues, blockBytes } = STORAGE_TYPES[type];
    const x = memory.f32(xAt);
    const rows = memory
      .bytes(rowsAt)
      .subarray(0, ((count * columns) / blockValues) * blockBytes)
      .fill(0);
    for (let first = 0; first < count * columns; first += blockValues) {
      const block = new DataView(rows.buffer, rows.byteOffset + (first / blockValues) * blockBytes, blockBytes);
      if (type === "F32" || type === "F16" || type === "BF16") encodeValue(type, block, x[first]!);
      else encodeBlock(type, block, Array.from(x.subarray(first, first + blockValues)));
    }
  };
}
