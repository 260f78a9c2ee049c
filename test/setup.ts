/** Matchers shared by all tests. */
import { expect } from "vitest";

interface Tolerance {
  readonly atol: number;
  readonly rtol?: number;
}

/** Worst place of two arrays of equal length, or undefined where all are within atol + rtol * |expected|. */
function worstPlace(actual: ArrayLike<number>, expected: ArrayLike<number>, { atol, rtol = 0 }: Tolerance) {
  let worst: { index: number; excess: number } | undefined;
  for (let index = 0; index < expected.length; index++) {
    const a = actual[index] as number;
    const e = expected[index] as number;
    if (Object.is(a, e) || (Number.isNaN(a) && Number.isNaN(e))) continue;
    const excess = Math.abs(a - e) - atol - rtol * Math.abs(e);
    if (!(excess <= 0) && (worst === undefined || !(excess <= worst.excess))) worst = { index, excess };
  }
  return worst;
}

expect.extend({
  /** Every element within atol + rtol * |expected|; the message names the worst one. */
  toBeAllClose(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: Tolerance) {
    if (actual.length !== expected.length) {
      return { pass: false, message: () => `${actual.length} elements, expected ${expected.length}` };
    }
    const worst = worstPlace(actual, expected, tolerance);
    return {
      pass: worst === undefined,
      message: () =>
        worst === undefined
          ? "all elements are close"
          : `element ${worst.index} of ${expected.length} is ${actual[worst.index]}, expected ${expected[worst.index]} within ${JSON.stringify(tolerance)}`,
    };
  },
});

declare module "vitest" {
  interface Matchers<T> {
    toBeAllClose(expected: ArrayLike<number>, tolerance: Tolerance): T;
  }
}
