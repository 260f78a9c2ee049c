import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { createReferenceBackend } from "../backend/reference/backend.ts";
import { rowBytes, type StorageType } from "../tensor/stored.ts";
import { addErrors, NO_ERROR, RowCoder, relativeError } from "./rowCoder.ts";

const coder = new RowCoder(createReferenceBackend());
afterAll(() => coder.close());

const bytesOf = (values: ArrayLike<number>) => new Uint8Array(Float32Array.from(values).buffer);

/** One row of f32 in another type. */
function code(type: StorageType, values: readonly number[]) {
  const coded = coder.code("F32", bytesOf(values), type, values.length);
  if ("index" in coded) throw new Error(`element ${coded.index} is ${coded.value}`);
  return coded;
}

function decode(type: StorageType, bytes: Uint8Array, count: number): number[] {
  const values = new Float32Array(count);
  coder.decode(type, bytes, values);
  return [...values];
}

const there = (type: StorageType, values: readonly number[]) => decode(type, code(type, values).bytes, values.length);

/** 32 values, one of which is large enough for the scale to be an ordinary f16. */
const anyBlock = fc
  .tuple(
    fc.array(fc.float({ min: -1, max: 1, noNaN: true }), { minLength: 31, maxLength: 31 }),
    fc.constantFrom(-1, 0.75, 0.3),
    fc.nat(31),
  )
  .map(([values, large, place]) => [...values.slice(0, place), Math.fround(large), ...values.slice(place)]);

/** Part of a scale that is lost when it is rounded to f16. */
const HALF_ROUNDING = 2 ** -11;
const RUNS = { seed: 1, numRuns: 300 };

describe("values there and back", () => {
  it("are within half a step in Q8_0", () => {
    fc.assert(
      fc.property(anyBlock, (values) => {
        const step = Math.max(...values.map(Math.abs)) / 127;
        const errors = there("Q8_0", values).map((value, i) => Math.abs(value - values[i]!) / step);
        expect(Math.max(...errors)).toBeLessThan(0.5 + 127 * HALF_ROUNDING + 1e-4);
      }),
      RUNS,
    );
  });

  it.each([
    ["Q4_1", 15],
    ["Q5_1", 31],
  ] as const)("are within half a step in %s", (type, levels) => {
    fc.assert(
      fc.property(anyBlock, (values) => {
        const least = Math.min(...values);
        const step = (Math.max(...values) - least) / levels;
        const rounding = HALF_ROUNDING * (levels * step + Math.abs(least));
        const errors = there(type, values).map((value, i) => Math.abs(value - values[i]!));
        expect(Math.max(...errors)).toBeLessThan(step / 2 + rounding + 1e-6);
      }),
      RUNS,
    );
  });

  it.each([
    ["Q4_0", 8],
    ["Q5_0", 16],
  ] as const)("are within half a step in %s, a whole one where the other sign has no level", (type, levels) => {
    fc.assert(
      fc.property(anyBlock, (values) => {
        const extreme = values.reduce((most, value) => (Math.abs(value) > Math.abs(most) ? value : most), 0);
        const step = -extreme / levels;
        for (const [i, value] of there(type, values).entries()) {
          const beyond = values[i]! / step > levels - 0.5;
          const allowed = (beyond ? 1 : 0.5) + levels * HALF_ROUNDING + 1e-4;
          expect(Math.abs((value - values[i]!) / step)).toBeLessThan(allowed);
        }
      }),
      RUNS,
    );
  });

  it.each(["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"] as const)("lose less with every bit: %s", (type) => {
    // Values of a normal distribution, as the sum of uniform ones; bounds a little above what GGML's quantisers reach.
    const bounds = { Q2_K: 0.31, Q3_K: 0.16, Q4_K: 0.076, Q5_K: 0.038, Q6_K: 0.019 };
    let seed = 1;
    const uniform = () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647 - 0.5;
    };
    const values = Array.from({ length: 1024 }, () => uniform() + uniform() + uniform() + uniform());
    const { error } = code(type, values);
    expect(relativeError(error)).toBeLessThan(bounds[type]);
    expect(relativeError(error)).toBeGreaterThan(bounds[type] / 2);
  });
});

describe("blocks there and back", () => {
  /** A positive f16 that is not subnormal, with its value. */
  const anyScale = fc.integer({ min: 0x0400, max: 0x7800 });
  const block = (scale: number, rest: ArrayLike<number>) =>
    Uint8Array.from([scale & 255, scale >> 8, ...Array.from(rest, (byte) => byte & 255)]);

  it("are the same in Q8_0 where one value has the largest level", () => {
    const levels = fc.array(fc.integer({ min: -127, max: 127 }), { minLength: 31, maxLength: 31 });
    fc.assert(
      fc.property(anyScale, levels, fc.constantFrom(-127, 127), (scale, levels, largest) => {
        const bytes = block(scale, [...levels, largest]);
        expect(code("Q8_0", decode("Q8_0", bytes, 32)).bytes).toEqual(bytes);
      }),
      RUNS,
    );
  });

  it("are the same in Q4_0 where one value has the level -8", () => {
    const nibbles = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 15, maxLength: 15 });
    fc.assert(
      fc.property(anyScale, fc.boolean(), nibbles, (scale, negative, nibbles) => {
        const bytes = block(scale | (negative ? 0x8000 : 0), [...nibbles, 0x30]);
        expect(code("Q4_0", decode("Q4_0", bytes, 32)).bytes).toEqual(bytes);
      }),
      RUNS,
    );
  });

  it.each(["F32", "F16", "BF16"] as const)("are the same in %s", (type) => {
    const values = [0, -0, 1, -1.5, 2 ** -20, 65_504, 0.333251953125].map((value) => there(type, [value])[0]!);
    const { bytes } = code(type, values);
    expect(code(type, decode(type, bytes, values.length)).bytes).toEqual(bytes);
  });
});

describe("errors", () => {
  it("are those of the values: by hand for Q8_0", () => {
    // The scale is 1, so 127 is exact and every quarter becomes 0.
    const { error, bytes } = code("Q8_0", [127, ...Array.from({ length: 31 }, () => 0.25)]);
    expect([...bytes]).toEqual([0x00, 0x3c, 127, ...Array.from({ length: 31 }, () => 0)]);
    expect(error).toEqual({ squaredError: 31 / 16, squares: 127 ** 2 + 31 / 16, worst: 0.25 });
    expect(relativeError(error)).toBeCloseTo(Math.sqrt(1.9375 / 16_130.9375), 12);
  });

  it("are those of the values: by hand for Q4_0", () => {
    // -8 gets the level -8, so the scale is 1; 7.75 is beyond 7, the highest level, and 3.25 becomes 3.
    const { error, bytes } = code("Q4_0", [-8, 7.75, 3.25, ...Array.from({ length: 29 }, () => 0)]);
    expect([...bytes]).toEqual([0x00, 0x3c, 0x80, 0x8f, 0x8b, ...Array.from({ length: 13 }, () => 0x88)]);
    expect(error).toEqual({ squaredError: 0.75 ** 2 + 0.25 ** 2, squares: 64 + 7.75 ** 2 + 3.25 ** 2, worst: 0.75 });
  });

  it("of parts add up, and nothing has none", () => {
    const parts = [
      { squaredError: 1, squares: 10, worst: 0.5 },
      { squaredError: 3, squares: 90, worst: 0.25 },
    ];
    expect(parts.reduce(addErrors, NO_ERROR)).toEqual({ squaredError: 4, squares: 100, worst: 0.5 });
    expect(relativeError(parts.reduce(addErrors, NO_ERROR))).toBe(0.2);
    expect(relativeError(NO_ERROR)).toBe(0);
  });
});

describe("what can not be stored", () => {
  const row = (place: number, value: number) => Array.from({ length: 64 }, (_, i) => (i === place ? value : 1));
  const fault = (type: StorageType, place: number, value: number) =>
    coder.code("F32", bytesOf(row(place, value)), type, 64);

  it("is told by its place", () => {
    expect(fault("Q4_0", 3, Number.NaN)).toEqual({ index: 3, value: Number.NaN });
    expect(fault("Q8_0", 40, Number.NEGATIVE_INFINITY)).toEqual({ index: 40, value: Number.NEGATIVE_INFINITY });
    expect(fault("F16", 63, 70_000)).toEqual({ index: 63, value: 70_000 });
    // 1e8 / 127 is no f16, and all values of its block are lost with it.
    expect(fault("Q8_0", 40, 1e8)).toMatchObject({ index: 32 });
    expect(fault("BF16", 40, 1e8)).toHaveProperty("bytes");
  });
});

it("takes rows from any type to any other", () => {
  const bytes = code(
    "Q4_K",
    Array.from({ length: 512 }, (_, i) => Math.sin(i)),
  ).bytes;
  const coded = coder.code("Q4_K", bytes, "Q8_0", 256);
  if ("index" in coded) throw new Error("not stored");
  expect(coded.bytes.length).toBe(2 * rowBytes("Q8_0", 256));
  expect(relativeError(coded.error)).toBeLessThan(0.01);
  expect(decode("Q8_0", coded.bytes, 512).map((value) => value.toFixed(1))).toEqual(
    decode("Q4_K", bytes, 512).map((value, i) => {
      const stored = decode("Q8_0", coded.bytes, 512)[i]!;
      return Math.abs(value - stored) < 0.005 ? stored.toFixed(1) : "far";
    }),
  );
});
