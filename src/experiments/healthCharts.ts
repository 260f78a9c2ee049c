/** Charts of how training went: the experts' load and the router's changes, and the norms of the gradient by group. */
import { type LineSeries, lineChart } from "../report/charts.ts";
import type { Metrics } from "../train/metrics.io.ts";
import type { NormsRecord, RoutingRecord } from "../train/records.ts";

/** A chart and the title of its figure. */
export interface HealthChart {
  readonly title: string;
  readonly spec: ReturnType<typeof lineChart>;
}

/** The least, mean and largest value over layers, which a chart can show of any number of them. */
function overLayers(records: readonly RoutingRecord[], values: (record: RoutingRecord) => readonly number[]) {
  const series = (name: string, of: (numbers: readonly number[]) => number): LineSeries => ({
    name,
    points: records.map((record) => [record.tokens, of(values(record))]),
  });
  return [
    series("highest layer", (numbers) => Math.max(...numbers)),
    series("mean of layers", (numbers) => numbers.reduce((sum, value) => sum + value, 0) / numbers.length),
    series("lowest layer", (numbers) => Math.min(...numbers)),
  ];
}

/** Charts of what a run has records of: none where it was shorter than `train.monitorEvery`. */
export function healthCharts(metrics: readonly Metrics[]): HealthChart[] {
  const routing = metrics.filter((record): record is RoutingRecord => record.type === "routing");
  const norms = metrics.filter((record): record is NormsRecord => record.type === "norms");
  const chart = (title: string, subtitle: string, yTitle: string, series: LineSeries[], logY = false): HealthChart => ({
    title,
    spec: lineChart({ title, subtitle, xTitle: "tokens", yTitle, series, logY }),
  });
  const groups = Object.keys(norms[0]?.gradient ?? {}) as (keyof NormsRecord["gradient"])[];
  const byGroup = groups.map((name) => ({
    name,
    points: norms.map(({ tokens, gradient }): [number, number] => [tokens, gradient[name] ?? Number.NaN]),
  }));
  return [
    ...(routing.length < 2
      ? []
      : [
          chart(
            "Load entropy",
            "1 is perfect balance",
            "entropy over its maximum",
            overLayers(routing, ({ load_entropy }) => load_entropy),
          ),
          chart(
            "Router churn",
            "experts of fixed held-out tokens that are new since the last checkpoint",
            "share of slots",
            overLayers(routing, ({ slot_churn }) => slot_churn),
          ),
        ]),
    ...(norms.length < 2
      ? []
      : [chart("Gradient norm by group", "before clipping", "L2 norm, logarithmic", byGroup, true)]),
  ];
}
