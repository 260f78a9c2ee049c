/** A chart of repeated measurements: a line through the means and a band from the least to the most. */
import type { TopLevelSpec } from "vega-lite";
import { finiteOrNull, head, refuseRepeats, SHORT_NUMBER, seriesScale } from "./charts.ts";

type Points = readonly (readonly [x: number, y: number])[];

export interface SpreadSeries {
  readonly name: string;
  /** The same curve measured several times, for example with several seeds. */
  readonly runs: readonly Points[];
}

export interface SpreadChartOptions {
  readonly title: string;
  readonly subtitle?: string;
  readonly xTitle: string;
  readonly yTitle: string;
  readonly series: readonly SpreadSeries[];
}

export interface SpreadPoint {
  readonly x: number;
  readonly mean: number;
  readonly least: number;
  readonly most: number;
}

/** Curves with fewer points than this show them. */
const MARKED_POINTS = 30;

/** Mean, least and most of several curves at every x that all of them have, in rising order of x. */
export function spreadOf(runs: readonly Points[]): SpreadPoint[] {
  const byX = new Map<number, number[]>();
  for (const points of runs) {
    for (const [x, y] of points) if (Number.isFinite(y)) byX.set(x, [...(byX.get(x) ?? []), y]);
  }
  return [...byX]
    .filter(([, values]) => values.length === runs.length)
    .sort(([a], [b]) => a - b)
    .map(([x, values]) => ({
      x,
      mean: values.reduce((sum, value) => sum + value, 0) / values.length,
      least: Math.min(...values),
      most: Math.max(...values),
    }));
}

/**
 * Lines with bands over a common x. The y axis need not start at zero.
 * @throws ConfigError if two series have the same name.
 */
export function spreadChart(options: SpreadChartOptions): TopLevelSpec {
  const { xTitle, yTitle, series } = options;
  const names = series.map(({ name }) => name);
  refuseRepeats("spreadChart", names);
  const curves = series.map(({ name, runs }) => ({ name, points: spreadOf(runs) }));
  const values = curves.flatMap(({ name, points }) =>
    points.map(({ x, mean, least, most }) => ({ series: name, x, mean: finiteOrNull(mean), least, most })),
  );
  const longest = Math.max(0, ...curves.map(({ points }) => points.length));
  const y = {
    type: "quantitative" as const,
    title: yTitle,
    scale: { zero: false },
    axis: { domain: false, ticks: false, tickCount: 6 },
  };
  const legend = { title: null, orient: "top" as const, symbolType: "stroke", symbolSize: 200, symbolOpacity: 1 };
  return {
    ...head(options),
    width: 620,
    height: 320,
    data: { values },
    encoding: {
      x: {
        field: "x",
        type: "quantitative",
        title: xTitle,
        scale: { zero: false, nice: false },
        axis: { grid: false, tickCount: 8, labelExpr: SHORT_NUMBER },
      },
      color: { field: "series", type: "nominal", scale: seriesScale(names), legend: names.length > 1 ? legend : null },
    },
    layer: [
      { mark: { type: "area", opacity: 0.2 }, encoding: { y: { ...y, field: "least" }, y2: { field: "most" } } },
      { mark: { type: "line", point: longest < MARKED_POINTS }, encoding: { y: { ...y, field: "mean" } } },
    ],
  };
}
