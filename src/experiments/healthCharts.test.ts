import { describe, expect, it } from "vitest";
import { resolveModel } from "../config/presets.ts";
import type { TrainMetrics } from "../train/metrics.io.ts";
import type { NormsRecord, RoutingRecord } from "../train/records.ts";
import { describeMemory, healthCharts } from "./healthCharts.ts";

const routing = (step: number): RoutingRecord => ({
  type: "routing",
  step,
  tokens: 10 * step,
  steps: 5,
  layers: [1, 3, 5],
  load_entropy: [0.5, 0.75, 1],
  largest_load_share: [0.25, 0.125, 0.375],
  dead_experts: [1, 2, 0],
  chosen_probability: [0.5, 0.5, 0.5],
  churn: [1, 1, 1],
  slot_churn: [1 / step, 0.5, 0.25],
});
const norms = (step: number): NormsRecord => ({
  type: "norms",
  step,
  tokens: 10 * step,
  gradient: { router: step, head: 2 },
  parameter: { router: 1, head: 1 },
  gradient_by_layer: [1],
  parameter_by_layer: [1],
});

/** A step's line with what the charts read. */
const trained = (step: number, bytes?: number) =>
  ({
    type: "train",
    tokens: 10 * step,
    ...(bytes === undefined ? {} : { resident_bytes: bytes }),
  }) as unknown as TrainMetrics;

const config = resolveModel({ preset: "tiny" });

/** Series of a chart as name and points. */
const seriesOf = (spec: unknown) => {
  const { data } = spec as { data: { values: Record<string, unknown>[] } };
  const points = new Map<unknown, unknown[]>();
  for (const { series, x, y } of data.values) points.set(series, [...(points.get(series) ?? []), [x, y]]);
  return Object.fromEntries(points);
};

describe("healthCharts", () => {
  it("draws the range over layers, and each group's gradient", () => {
    const charts = healthCharts(
      [routing(5), norms(5), trained(7, 2e9), routing(10), norms(10), trained(10, 3e9)],
      config,
    );
    expect(charts.map(({ title, spec }) => [title, seriesOf(spec)])).toEqual([
      [
        "Load entropy",
        {
          "highest layer": [
            [50, 1],
            [100, 1],
          ],
          "mean of layers": [
            [50, 0.75],
            [100, 0.75],
          ],
          "lowest layer": [
            [50, 0.5],
            [100, 0.5],
          ],
        },
      ],
      [
        "Busiest expert of a layer",
        {
          "highest layer": [
            [50, 3],
            [100, 3],
          ],
          "mean of layers": [
            [50, 2],
            [100, 2],
          ],
        },
      ],
      [
        "Experts without a token",
        {
          experts: [
            [50, 3],
            [100, 3],
          ],
        },
      ],
      [
        "Router churn",
        {
          "highest layer": [
            [50, 0.5],
            [100, 0.5],
          ],
          "mean of layers": [
            [50, (0.2 + 0.5 + 0.25) / 3],
            [100, (0.1 + 0.5 + 0.25) / 3],
          ],
          "lowest layer": [
            [50, 0.2],
            [100, 0.1],
          ],
        },
      ],
      [
        "Gradient norm by group",
        {
          router: [
            [50, 5],
            [100, 10],
          ],
          head: [
            [50, 2],
            [100, 2],
          ],
        },
      ],
      [
        "Memory",
        {
          resident: [
            [70, 2],
            [100, 3],
          ],
        },
      ],
    ]);
  });

  it("leaves out loads where experts choose, which are even by construction", () => {
    const choosing = resolveModel({ preset: "tiny", routing: "expert_choice" });
    expect(healthCharts([routing(5), routing(10)], choosing).map(({ title }) => title)).toEqual(["Router churn"]);
  });

  it("draws nothing of a run that was too short for two records", () => {
    expect(healthCharts([], config)).toEqual([]);
    expect(healthCharts([routing(5), norms(5), trained(1, 1e9)], config)).toEqual([]);
    expect(healthCharts([trained(1), trained(2)], config)).toEqual([]);
  });
});

describe("describeMemory", () => {
  it("compares the first tenth with the end, where it was measured", () => {
    const lines = Array.from({ length: 20 }, (_, index) => trained(index + 1, (index === 9 ? 40 : index) * 1e9));
    expect(describeMemory(lines)).toEqual([
      "Memory after a tenth of the steps: 2 GB; after the last: 19 GB; at most: 40 GB",
    ]);
    expect(describeMemory([trained(1)])).toEqual([]);
  });
});
