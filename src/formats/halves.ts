/**
 * Conversion between f32 and the two half-width floats that checkpoints hold: IEEE binary16 (f16) and bfloat16 (the upper
 * half of an f32). Narrowing rounds to nearest, ties to even, and keeps infinities and NaN; widening is exact.
 */
import { ShapeError } from "../errors.ts";

function checkLengths(source: ArrayLike<number>, target: ArrayLike<number>): void {
  if (source.length !== target.length) {
    throw new ShapeError(`halves: the target has ${target.length} elements, expected ${source.length}`);
  }
}

/** The bits of an f32 array, in place. */
function bitsOf(values: Float32Array): Uint32Array {
  return new Uint32Array(values.buffer, values.byteOffset, values.length);
}

/**
 * Widens bfloat16 bits; every value is exact, NaN payloads included.
 * @throws ShapeError if the lengths differ.
 */
export function bf16ToF32(source: Uint16Array, target: Float32Array): void {
  checkLengths(source, target);
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
}

/**
 * Narrows to bfloat16 bits.
 * @throws ShapeError if the lengths differ.
 */
export function f32ToBf16(source: Float32Array, target: Uint16Array): void {
  checkLengths(source, target);
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i]!;
    if ((value & 0x7fffffff) > 0x7f800000) {
      // A payload in the lower half alone would turn into an infinity: the quiet bit keeps it a NaN.
      target[i] = (value >>> 16) | ((value & 0x7f0000) === 0 ? 0x40 : 0);
    } else {
      target[i] = (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
    }
  }
}

/**
 * Widens binary16 bits; every value is exact, NaN payloads included.
 * @throws ShapeError if the lengths differ.
 */
export function f16ToF32(source: Uint16Array, target: Float32Array): void {
  checkLengths(source, target);
  const bits = bitsOf(target);
  for (let i = 0; i < source.length; i++) {
    const half = source[i]!;
    const sign = (half & 0x8000) << 16;
    const magnitude = half & 0x7fff;
    if (magnitude >= 0x7c00) bits[i] = sign | 0x7f800000 | ((magnitude & 0x3ff) << 13);
    else if (magnitude >= 0x400) bits[i] = sign | ((magnitude << 13) + 0x38000000);
    else target[i] = (sign === 0 ? magnitude : -magnitude) * 2 ** -24;
  }
}

/**
 * Narrows to binary16 bits. Magnitudes from 65,520 on become infinities.
 * @throws ShapeError if the lengths differ.
 */
export function f32ToF16(source: Float32Array, target: Uint16Array): void {
  checkLengths(source, target);
  const bits = bitsOf(source);
  for (let i = 0; i < bits.length; i++) {
    const sign = (bits[i]! >>> 16) & 0x8000;
    const magnitude = bits[i]! & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) half = 0x7c00 | ((magnitude >>> 13) & 0x3ff || 0x200);
    else if (magnitude >= 0x477ff000) half = 0x7c00;
    else if (magnitude >= 0x38800000) half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    // Next to 0.5 the f32 grid is the subnormal grid of f16, so adding 0.5 rounds to it.
    else half = (Math.fround(Math.abs(source[i]!) + 0.5) - 0.5) * 2 ** 24;
    target[i] = sign | half;
  }
}
