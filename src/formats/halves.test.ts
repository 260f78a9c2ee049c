import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16 } from "./halves.ts";

const allHalves = Uint16Array.from({ length: 65_536 }, (_, index) => index);
const widened = (widen: typeof f16ToF32, halves: Uint16Array) => {
  const values = new Float32Array(halves.length);
  widen(halves, values);
  return values;
};
const narrowed = (narrow: typeof f32ToF16, values: Iterable<number>) => {
  const source = Float32Array.from(values);
  const halves = new Uint16Array(source.length);
  narrow(source, halves);
  return [...halves];
};

/** The value of a half by its definition: sign, exponent and fraction. */
function definedValue(half: number, exponentBits: number, fractionBits: number): number {
  const bias = 2 ** (exponentBits - 1) - 1;
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half & 0x7fff) >> fractionBits;
  const fraction = half & (2 ** fractionBits - 1);
  if (exponent === 2 ** exponentBits - 1) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  if (exponent === 0) return sign * fraction * 2 ** (1 - bias - fractionBits);
  return sign * (1 + fraction / 2 ** fractionBits) * 2 ** (exponent - bias);
}

/** Rounds to nearest, ties to the even pattern, by search among all finite halves and one step beyond the largest. */
function nearestHalf(value: number, exponentBits: number, fractionBits: number): number {
  const infinity = (2 ** exponentBits - 1) << fractionBits;
  const step = (half: number) =>
    half === infinity ? 2 ** (2 ** (exponentBits - 1)) : definedValue(half, exponentBits, fractionBits);
  let low = 0;
  let high = infinity;
  const magnitude = Math.min(Math.abs(value), step(infinity));
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (step(middle) <= magnitude) low = middle;
    else high = middle;
  }
  const toLow = magnitude - step(low);
  const toHigh = step(high) - magnitude;
  const half = toLow < toHigh || (toLow === toHigh && low % 2 === 0) ? low : high;
  return half | (Object.is(value, -0) || value < 0 ? 0x8000 : 0);
}

const formats = [
  { name: "f16", widen: f16ToF32, narrow: f32ToF16, exponentBits: 5, fractionBits: 10 },
  { name: "bf16", widen: bf16ToF32, narrow: f32ToBf16, exponentBits: 8, fractionBits: 7 },
] as const;

describe.each(formats)("$name", ({ widen, narrow, exponentBits, fractionBits }) => {
  it("widens all 65,536 patterns to their defined value", () => {
    const expected = Float32Array.from(allHalves, (half) => definedValue(half, exponentBits, fractionBits));
    const values = widened(widen, allHalves);
    expect([...values].findIndex((value, index) => !Object.is(value, expected[index]))).toBe(-1);
  });

  it("narrows every widened pattern back to the same bits, NaN payloads included", () => {
    const back = new Uint16Array(65_536);
    narrow(widened(widen, allHalves), back);
    expect(back).toEqual(allHalves);
  });

  it("rounds the midpoint of any two neighbours to the even one", () => {
    const infinity = (2 ** exponentBits - 1) << fractionBits;
    const lower = Array.from({ length: infinity - 1 }, (_, half) => half);
    const midpoints = lower.map(
      (half) =>
        (definedValue(half, exponentBits, fractionBits) + definedValue(half + 1, exponentBits, fractionBits)) / 2,
    );
    expect(narrowed(narrow, midpoints)).toEqual(lower.map((half) => half + (half % 2)));
    expect(
      narrowed(
        narrow,
        midpoints.map((value) => -value),
      ),
    ).toEqual(lower.map((half) => (half + (half % 2)) | 0x8000));
  });

  it("rounds any f32 to the nearest pattern", () => {
    fc.assert(
      fc.property(fc.float({ noNaN: true }), (value) => {
        expect(narrowed(narrow, [value])).toEqual([nearestHalf(value, exponentBits, fractionBits)]);
      }),
      { seed: 1, numRuns: 2000 },
    );
  });
});

it("turns values beyond the largest f16 into infinities from 65,520 on", () => {
  expect(narrowed(f32ToF16, [65_504, 65_519.996, 65_520, -65_520, 1e30])).toEqual([
    0x7bff, 0x7bff, 0x7c00, 0xfc00, 0x7c00,
  ]);
});

it("keeps a NaN whose payload lies in the bits that are cut off", () => {
  const source = new Float32Array(new Uint32Array([0x7f800001, 0xff800001]).buffer);
  const halves = new Uint16Array(2);
  f32ToBf16(source, halves);
  expect([...halves]).toEqual([0x7fc0, 0xffc0]);
  f32ToF16(source, halves);
  expect([...halves]).toEqual([0x7e00, 0xfe00]);
});

it("refuses a target of another length", () => {
  expect(() => f32ToF16(new Float32Array(2), new Uint16Array(3))).toThrow(
    "halves: the target has 3 elements, expected 2",
  );
});
