import { describe, expect, it } from "vitest";
import { scheduleSchema } from "../config/recipe.ts";
import { learningRate } from "./schedule.ts";

const PEAK = 4e-4;
const relative = (actual: number, expected: number) => Math.abs(actual / expected - 1);

describe("learningRate", () => {
  // OLMoE-1B-7B: cosine in tokens, 10,485,760,000 of warm-up from 10 % of the peak, down to 10 % at 5e12.
  const released = scheduleSchema.parse({ warmupSteps: 10_485_760_000 });
  const TOKENS_PER_STEP = 4_194_304;

  it.each([
    [0, 4e-5, 1e-12],
    [1, 4.0144e-5, 1e-5],
    [1250, 2.2e-4, 1e-12],
    [2500, 4e-4, 1e-12],
    [100_000, 3.9407e-4, 1e-4],
    [1_000_000, 6.267e-5, 1e-4],
    [2_000_000, 4e-5, 1e-12],
  ])("gives the released model's rate at step %i", (step, expected, tolerance) => {
    expect(relative(learningRate(released, PEAK, step * TOKENS_PER_STEP, 5e12), expected)).toBeLessThan(tolerance);
  });

  const rates = (schedule: object, steps: number) =>
    Array.from({ length: steps }, (_, i) => learningRate(scheduleSchema.parse(schedule), 1, i + 1, 8));

  it("falls in a straight line to 0 at the last step", () => {
    const linear = { kind: "linear", warmupSteps: 4, warmupStartRatio: 0, finalRatio: 0 };
    expect(rates(linear, 9)).toEqual([0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0, 0]);
  });

  it("stays at the peak when constant, from the first step without a warm-up", () => {
    expect(rates({ kind: "constant", warmupSteps: 2, finalRatio: 0 }, 4)).toEqual([0.55, 1, 1, 1]);
    expect(rates({ kind: "constant" }, 3)).toEqual([1, 1, 1]);
  });

  it("falls from the peak on a cosine without a warm-up, and keeps the final rate", () => {
    const cosine = rates({ kind: "cosine", finalRatio: 0.5 }, 10);
    expect(cosine[3]).toBeCloseTo(0.75, 12);
    expect(cosine.slice(7)).toEqual([0.5, 0.5, 0.5]);
    expect(cosine.slice(0, 8)).toEqual([...cosine.slice(0, 8)].sort((a, b) => b - a));
  });

  it("only warms up in a run that ends with the warm-up", () => {
    expect(rates({ kind: "cosine", warmupSteps: 8, warmupStartRatio: 0 }, 8).at(-1)).toBe(1);
  });
});
