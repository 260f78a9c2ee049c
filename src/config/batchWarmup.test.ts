import { describe, expect, it } from "vitest";
import { batchSizeAt, fullSteps, leastPass, plannedTokens, sequencesThrough } from "./batchWarmup.ts";

const PLAN = {
  steps: 7,
  batchSize: 8,
  batchWarmup: [
    { steps: 2, batchSize: 2 },
    { steps: 1, batchSize: 4 },
  ],
  sequenceLength: 16,
};
const STEPS = [1, 2, 3, 4, 5, 6, 7];

describe("a batch-size warm-up", () => {
  it("goes through its stages and stays at the full batch", () => {
    expect(STEPS.map((step) => batchSizeAt(PLAN, step))).toEqual([2, 2, 4, 8, 8, 8, 8]);
    expect([0, ...STEPS].map((step) => sequencesThrough(PLAN, step))).toEqual([0, 2, 4, 8, 16, 24, 32, 40]);
    expect(plannedTokens(PLAN)).toBe(640);
  });

  it("moves the schedule by sequences: small steps count for less", () => {
    expect(STEPS.map((step) => fullSteps(PLAN, step))).toEqual([0.25, 0.5, 1, 2, 3, 4, 5]);
  });

  it("has its smallest forward pass in its first stage, or in every micro-batch", () => {
    const sizes = [undefined, 4, 2, 1].map((microBatchSize) => leastPass({ ...PLAN, microBatchSize }));
    expect(sizes).toEqual([2, 2, 2, 1]);
    expect(leastPass({ ...PLAN, batchWarmup: [] })).toBe(8);
  });

  it("that is left out changes nothing, not even the last bit", () => {
    const plan = { steps: 1e6, batchSize: 37, batchWarmup: [] };
    for (const step of [1, 3, 999_983]) expect(fullSteps(plan, step)).toBe(step);
    expect(batchSizeAt(plan, 1)).toBe(37);
  });
});
