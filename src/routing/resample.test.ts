import { describe, expect, it } from "vitest";
import { bootstrap, quantile } from "./resample.ts";

/** Shares of the two columns. */
const shares = (sums: Float64Array, values: Float64Array) => {
  for (let place = 0; place < 2; place++) values[place] = sums[place]! / (sums[0]! + sums[1]!);
};

describe("bootstrap", () => {
  const alike = Array.from({ length: 10 }, () => [3, 1]);

  it("has no width where all units are alike, and none without two units", () => {
    expect(bootstrap(alike, 2, "test", shares, { resamples: 50 })).toEqual([
      [0.75, 0.75],
      [0.25, 0.25],
    ]);
    expect(bootstrap(alike.slice(0, 1), 2, "test", shares, {})).toBeUndefined();
    expect(bootstrap(alike, 2, "test", shares, { resamples: 0 })).toBeUndefined();
  });

  it("covers the share that was drawn from about 95 times of 100", () => {
    // 200 samples of 40 sequences, of which each goes to expert 0 with probability 0.3, by a fixed sequence of numbers.
    let state = 1;
    const next = () => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return state / 0x7fffffff;
    };
    const covered = Array.from({ length: 200 }, (_, sample) => {
      const units = Array.from({ length: 40 }, () => (next() < 0.3 ? [1, 0] : [0, 1]));
      const [low, high] = bootstrap(units, 2, `sample ${sample}`, shares, { resamples: 400 })![0]!;
      return low <= 0.3 && 0.3 <= high;
    }).filter(Boolean).length;
    expect(covered).toBeGreaterThanOrEqual(180);
    expect(covered).toBeLessThan(200);
  });

  it("takes quantiles between values by proportion", () => {
    const sorted = Float64Array.of(1, 2, 4);
    expect([0, 0.25, 0.5, 0.75, 1].map((place) => quantile(sorted, place))).toEqual([1, 1.5, 2, 3, 4]);
    expect(quantile(new Float64Array(0), 0.5)).toBeNaN();
  });
});
