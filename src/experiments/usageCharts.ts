/** What a run used: how much of its experts, and how much memory. From the lines of its steps. */
import { lineChart } from "../report/charts.ts";
import { formatBytes } from "../report/text.ts";
import type { Metrics, TrainMetrics } from "../train/metrics.io.ts";
import { thinned } from "./thin.ts";

/** A chart and the title of its figure. */
export interface UsageChart {
  readonly title: string;
  readonly spec: ReturnType<typeof lineChart>;
}

const steps = (metrics: readonly Metrics[]) => metrics.filter((line): line is TrainMetrics => line.type === "train");
const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
const measured = (lines: readonly TrainMetrics[]) =>
  lines.flatMap(({ tokens, resident_bytes }) =>
    resident_bytes === undefined ? [] : [[tokens, resident_bytes] as const],
  );

/**
 * Load of each layer's busiest expert and experts without a token, for a model with experts; resident memory, where it was
 * measured.
 * @param experts of one layer.
 */
export function usageCharts(metrics: readonly Metrics[], experts: number): UsageChart[] {
  const lines = steps(metrics);
  const series = (name: string, value: (line: TrainMetrics) => number) => ({
    name,
    points: thinned(lines.map((line) => [line.tokens, value(line)] as const)),
  });
  const chart = (title: string, subtitle: string, yTitle: string, all: ReturnType<typeof series>[]): UsageChart => ({
    title,
    spec: lineChart({ title, subtitle, xTitle: "tokens", yTitle, series: all }),
  });
  const memory = measured(lines);
  return [
    ...((lines[0]?.largest_load_share.length ?? 0) === 0
      ? []
      : [
          chart("Busiest expert of a layer", "tokens of one step; 1 is perfect balance", "times an even share", [
            series("most of the layers", (line) => experts * Math.max(...line.largest_load_share)),
            series("mean of the layers", ({ largest_load_share: shares }) => (experts * sumOf(shares)) / shares.length),
          ]),
          chart("Experts without a token in a step", "all layers together", "experts", [
            series("experts", (line) => sumOf(line.dead_experts)),
          ]),
        ]),
    ...(memory.length === 0
      ? []
      : [
          chart("Memory", "what the process holds after a step", "GB", [
            { name: "resident", points: thinned(memory.map(([tokens, bytes]) => [tokens, bytes / 1e9] as const)) },
          ]),
        ]),
  ];
}

/** How memory went, in a sentence; nothing where it was not measured. */
export function describeMemory(metrics: readonly Metrics[]): string[] {
  const bytes = measured(steps(metrics)).map(([, value]) => value);
  const [early, last] = [bytes[Math.floor(bytes.length / 10)], bytes.at(-1)];
  if (early === undefined || last === undefined) return [];
  const most = bytes.reduce((a, b) => Math.max(a, b));
  return [
    `Memory after a tenth of the steps: ${formatBytes(early)}; after the last: ${formatBytes(last)}; at most: ${formatBytes(most)}`,
  ];
}
