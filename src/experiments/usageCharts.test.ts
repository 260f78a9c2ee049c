import { describe, expect, it } from "vitest";
import type { TrainMetrics } from "../train/metrics.io.ts";
import { describeMemory, usageCharts } from "./usageCharts.ts";

/** A step's line with what the charts read. */
function line(step: number, shares: number[], dead: number[], bytes?: number): TrainMetrics {
  const memory = bytes === undefined ? {} : { resident_bytes: bytes };
  return {
    type: "train",
    step,
    tokens: 100 * step,
    largest_load_share: shares,
    dead_experts: dead,
    ...memory,
  } as unknown as TrainMetrics;
}

/** Titles of the charts with their series as name and points. */
const shown = (charts: ReturnType<typeof usageCharts>) =>
  charts.map(({ title, spec }) => {
    const { data } = spec as unknown as { data: { values: { series: string; x: number; y: number }[] } };
    return [title, ...data.values.map(({ series, x, y }) => [series, x, y])];
  });

const LINES = [line(1, [0.25, 0.125], [1, 2], 2e9), line(2, [0.5, 0.25], [0, 1], 3e9)];

describe("usageCharts", () => {
  it("draws the busiest experts over an even share, unused ones, and memory", () => {
    expect(shown(usageCharts(LINES, 8))).toEqual([
      [
        "Busiest expert of a layer",
        ["most of the layers", 100, 2],
        ["most of the layers", 200, 4],
        ["mean of the layers", 100, 1.5],
        ["mean of the layers", 200, 3],
      ],
      ["Experts without a token in a step", ["experts", 100, 3], ["experts", 200, 1]],
      ["Memory", ["resident", 100, 2], ["resident", 200, 3]],
    ]);
  });

  it("leaves out experts for a dense model, and memory for files of earlier versions", () => {
    expect(shown(usageCharts([line(1, [], [], 1e9)], 1))).toEqual([["Memory", ["resident", 100, 1]]]);
    expect(usageCharts([line(1, [], [])], 1)).toEqual([]);
    expect(usageCharts([], 1)).toEqual([]);
  });
});

describe("describeMemory", () => {
  it("compares the first tenth with the end, where it was measured", () => {
    const lines = Array.from({ length: 20 }, (_, index) => line(index + 1, [], [], (index === 9 ? 40 : index) * 1e9));
    expect(describeMemory(lines)).toEqual([
      "Memory after a tenth of the steps: 2 GB; after the last: 19 GB; at most: 40 GB",
    ]);
    expect(describeMemory([line(1, [], [])])).toEqual([]);
  });
});
