import { describe, expect, it } from "vitest";
import type { NormsRecord, RoutingRecord } from "../train/records.ts";
import { healthCharts } from "./healthCharts.ts";

const routing = (step: number): RoutingRecord => ({
  type: "routing",
  step,
  tokens: 10 * step,
  steps: 5,
  load_entropy: [0.5, 0.75, 1],
  largest_load_share: [0.5, 0.5, 0.5],
  dead_experts: [0, 0, 0],
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

/** Series of a chart as name and points. */
const seriesOf = (spec: unknown) => {
  const { data } = spec as { data: { values: Record<string, unknown>[] } };
  const points = new Map<unknown, unknown[]>();
  for (const { series, x, y } of data.values) points.set(series, [...(points.get(series) ?? []), [x, y]]);
  return Object.fromEntries(points);
};

describe("healthCharts", () => {
  it("draws the range over layers, and each group's gradient", () => {
    const charts = healthCharts([routing(5), norms(5), routing(10), norms(10)]);
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
    ]);
  });

  it("draws nothing of a run that was too short for two records", () => {
    expect(healthCharts([])).toEqual([]);
    expect(healthCharts([routing(5), norms(5)])).toEqual([]);
  });
});
