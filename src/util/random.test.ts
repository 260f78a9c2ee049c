import { describe, expect, it } from "vitest";
import { createRandom, fillNormal, shuffledOrder, uniform } from "./random.ts";

const COUNT = 100_000;
const normal = (cutoff?: number) => {
  const values = new Float32Array(COUNT);
  fillNormal(values, createRandom(1, "test"), 2, cutoff);
  return values;
};
const momentOf = (values: ArrayLike<number>, power: number) =>
  Array.prototype.reduce.call(values, (sum, value) => (sum as number) + value ** power, 0) as number;

describe("createRandom", () => {
  const first = (seed: number, purpose: string) => {
    const random = createRandom(seed, purpose);
    return Array.from({ length: 4 }, () => uniform(random));
  };

  it("gives the same numbers for the same seed and purpose, and others for others", () => {
    const streams = [first(1, "a"), first(2, "a"), first(1, "b"), first(12, ""), first(2, "1/")];
    expect(first(1, "a")).toEqual(streams[0]);
    expect(new Set(streams.flat()).size).toBe(20);
  });

  it("is uniform in [0, 1)", () => {
    const random = createRandom(3, "uniform");
    const values = Float64Array.from({ length: COUNT }, () => uniform(random));
    expect(values.every((value) => value >= 0 && value < 1)).toBe(true);
    // Deviations of the estimates: 0.29 / sqrt(n) = 9e-4 and 0.30 / sqrt(n) = 9e-4.
    expect(momentOf(values, 1) / COUNT).toBeCloseTo(1 / 2, 2);
    expect(momentOf(values, 2) / COUNT).toBeCloseTo(1 / 3, 2);
  });
});

describe("fillNormal", () => {
  it("fills with the given deviation, mean 0 and the fourth moment of a normal distribution", () => {
    const values = normal();
    expect(momentOf(values, 1) / COUNT).toBeCloseTo(0, 1);
    expect(Math.abs(momentOf(values, 2) / COUNT / 4 - 1)).toBeLessThan(0.02);
    expect(Math.abs(momentOf(values, 4) / COUNT / 48 - 1)).toBeLessThan(0.06);
  });

  it("draws again what is beyond the cut-off, which lowers the deviation by its known factor", () => {
    const values = normal(3);
    expect(values.reduce((most, value) => Math.max(most, Math.abs(value)), 0)).toBeLessThanOrEqual(6);
    // 0.98658: deviation of a unit normal cut at 3.
    expect(Math.abs(Math.sqrt(momentOf(values, 2) / COUNT) / (2 * 0.98658) - 1)).toBeLessThan(0.01);
  });

  it("fills targets of any length, none included", () => {
    for (const length of [0, 1, 7]) {
      const values = new Float32Array(length);
      fillNormal(values, createRandom(1, "test"), 2);
      expect([...values]).toEqual([...normal().subarray(0, length)]);
    }
  });
});

describe("shuffledOrder", () => {
  it("holds each index once, in the seed's order", () => {
    const order = shuffledOrder(1000, createRandom(1, "order"));
    expect([...order].sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, i) => i));
    expect(shuffledOrder(1000, createRandom(1, "order"))).toEqual(order);
    expect(shuffledOrder(1000, createRandom(2, "order"))).not.toEqual(order);
    expect([...shuffledOrder(0, createRandom(1, "order"))]).toEqual([]);
  });

  it("gives each of the six orders of three about equally often", () => {
    const random = createRandom(5, "orders");
    const counts = new Map<string, number>();
    for (let i = 0; i < 6000; i++) {
      const order = String(shuffledOrder(3, random));
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    // Deviation of each count: sqrt(6000 * 1/6 * 5/6) = 29.
    expect([...counts.values()].every((count) => Math.abs(count - 1000) < 150)).toBe(true);
    expect(counts.size).toBe(6);
  });
});
