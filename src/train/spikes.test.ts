import { describe, expect, it } from "vitest";
import { spikesSchema } from "../config/recipe.ts";
import { describeSpike, SpikeDetector } from "./spikes.ts";

const judged = (window: number, threshold: number, losses: readonly number[]) => {
  const detector = new SpikeDetector({ window, threshold });
  return losses.map((loss) => detector.add(loss));
};

describe("SpikeDetector", () => {
  it("gives the limit worked out by hand", () => {
    // Median of 1, 2, 4, 9 is 3; the deviations 2, 1, 1, 6 have the median 1.5.
    const spike = judged(8, 2, [1, 2, 4, 9, 7.5]).at(-1);
    expect(spike).toEqual({ loss: 7.5, median: 3, deviation: 1.4826 * 1.5, limit: 3 + 2 * 1.4826 * 1.5 });
    expect(judged(8, 2, [1, 2, 4, 9, 7.4]).at(-1)).toBeUndefined();
  });

  it("judges from half a window on, and by the window alone", () => {
    expect(judged(8, 6, [1, 1.1, 0.9, 50])).toEqual([undefined, undefined, undefined, undefined]);
    expect(judged(8, 6, [1, 1.1, 0.9, 1, 50]).at(-1)).toMatchObject({ loss: 50, median: 1 });
    // The four of a higher level that came last are all it remembers.
    expect(judged(4, 6, [1, 1.1, 0.9, 1, 9, 9.1, 8.9, 9, 9.2]).at(-1)).toBeUndefined();
  });

  it("sees a second spike beside the first, which a standard deviation would hide", () => {
    const losses = [1, 1.1, 0.9, 1, 1.05, 0.95, 50, 20];
    expect(judged(8, 6, losses).map((spike) => spike?.loss)).toEqual([...Array(6).fill(undefined), 50, 20]);
  });

  it("says nothing about a loss that falls, or stays, and something about one that leaves a flat line", () => {
    const falling = Array.from({ length: 200 }, (_, step) => 10 * Math.exp(-step / 40) + 0.1 * Math.sin(step));
    expect(judged(128, 6, falling).filter((spike) => spike !== undefined)).toEqual([]);
    expect(judged(4, 6, [2, 2, 2, 2, 2.000001]).at(-1)).toBeUndefined();
    expect(judged(4, 6, [2, 2, 2, 2, 2.1]).at(-1)).toMatchObject({ limit: 2 * (1 + 6e-6) });
  });

  it("goes on from what a checkpoint keeps as if it had not stopped", () => {
    const losses = Array.from({ length: 30 }, (_, step) => 3 + Math.sin(step * step));
    const [whole, first, second] = [1, 2, 3].map(() => new SpikeDetector({ window: 8, threshold: 1 }));
    for (const loss of losses) whole!.add(loss);
    for (const loss of losses.slice(0, 17)) first!.add(loss);
    second!.restore(JSON.parse(JSON.stringify(first!.losses)));
    for (const loss of losses.slice(17)) second!.add(loss);
    expect(second!.losses).toEqual(whole!.losses);
    expect(second!.add(4)).toEqual(whole!.add(4));
  });

  it("is described in one sentence", () => {
    const spike = { loss: 7.5, median: 3, deviation: 0.5, limit: 6 };
    expect(describeSpike(12, spike, spikesSchema.parse({}))).toBe(
      "step 12: loss 7.500 is a spike, above 6.000: 6 deviations above the median 3.000 of the last 128 steps",
    );
  });
});
