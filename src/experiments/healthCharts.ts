/**
 * Charts of how training went: the experts' load and the router's changes, the norms of the gradient by group, and memory.
 */
import type { ModelConfig } from "../config/model.ts";
import { type LineSeries, lineChart } from "../report/charts.ts";
import { formatBytes } from "../report/text.ts";
import type { Metrics, TrainMetrics } from "../train/metrics.io.ts";
import type { NormsRecord, RoutingRecord } from "../train/records.ts";
import { thinned } from "./thin.ts";

/** A chart and the title of its figure. */
export interface HealthChart {
  readonly title: string;
  readonly spec: ReturnType<typeof lineChart>;
}

function chart(title: string, subtitle: string, yTitle: string, series: LineSeries[], logY = false): HealthChart {
  return { title, spec: lineChart({ title, subtitle, xTitle: "tokens", yTitle, series, logY }) };
}

const sumOf = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
const meanOf = (values: readonly number[]) => sumOf(values) / values.length;

/** Some of the least, mean and largest value over layers, which a chart can show of any number of them. */
function overLayers(
  records: readonly RoutingRecord[],
  values: (record: RoutingRecord) => readonly number[],
  shown: readonly ("highest" | "mean" | "lowest")[] = ["highest", "mean", "lowest"],
): LineSeries[] {
  const all = {
    highest: ["highest layer", (numbers: readonly number[]) => Math.max(...numbers)],
    mean: ["mean of layers", meanOf],
    lowest: ["lowest layer", (numbers: readonly number[]) => Math.min(...numbers)],
  } as const;
  return shown.map((key) => {
    const [name, of] = all[key];
    return { name, points: records.map((record): [number, number] => [record.tokens, of(values(record))]) };
  });
}

/** How evenly tokens are spread, where they are not by construction. */
function loadCharts(records: readonly RoutingRecord[], experts: number): HealthChart[] {
  const times = ({ largest_load_share }: RoutingRecord) => largest_load_share.map((share) => experts * share);
  const dead = records.map(({ tokens, dead_experts }): [number, number] => [tokens, sumOf(dead_experts)]);
  return [
    chart(
      "Load entropy",
      "1 is perfect balance",
      "entropy over its maximum",
      overLayers(records, ({ load_entropy }) => load_entropy),
    ),
    chart(
      "Busiest expert of a layer",
      "1 is perfect balance",
      "times an even share",
      overLayers(records, times, ["highest", "mean"]),
    ),
    chart("Experts without a token", "all layers together", "experts", [{ name: "experts", points: dead }]),
  ];
}

function routingCharts(records: readonly RoutingRecord[], { routing, numExperts }: ModelConfig): HealthChart[] {
  if (records.length < 2) return [];
  return [
    ...(routing === "token_choice" ? loadCharts(records, numExperts) : []),
    chart(
      "Router churn",
      "experts of fixed held-out tokens that are new since the last checkpoint",
      "share of slots",
      overLayers(records, ({ slot_churn }) => slot_churn),
    ),
  ];
}

function normCharts(records: readonly NormsRecord[]): HealthChart[] {
  if (records.length < 2) return [];
  const groups = Object.keys(records[0]?.gradient ?? {}) as (keyof NormsRecord["gradient"])[];
  const byGroup = groups.map((name) => ({
    name,
    points: records.map(({ tokens, gradient }): [number, number] => [tokens, gradient[name] ?? Number.NaN]),
  }));
  return [chart("Gradient norm by group", "before clipping", "L2 norm, logarithmic", byGroup, true)];
}

/** Tokens and resident bytes of each step, where they were measured. */
function memoryOf(metrics: readonly Metrics[]): (readonly [number, number])[] {
  const steps = metrics.filter((line): line is TrainMetrics => line.type === "train");
  return steps.flatMap(({ tokens, resident_bytes }) =>
    resident_bytes === undefined ? [] : [[tokens, resident_bytes] as const],
  );
}

function memoryCharts(metrics: readonly Metrics[]): HealthChart[] {
  const points = thinned(memoryOf(metrics).map(([tokens, bytes]) => [tokens, bytes / 1e9] as const));
  if (points.length < 2) return [];
  return [chart("Memory", "what the process holds after a step", "GB", [{ name: "resident", points }])];
}

/** Charts of what a run has at least two records of: routing and norms each `train.monitorEvery` steps, memory each step. */
export function healthCharts(metrics: readonly Metrics[], config: ModelConfig): HealthChart[] {
  const routing = metrics.filter((record): record is RoutingRecord => record.type === "routing");
  const norms = metrics.filter((record): record is NormsRecord => record.type === "norms");
  return [...routingCharts(routing, config), ...normCharts(norms), ...memoryCharts(metrics)];
}

/** How memory went, in a sentence; nothing where it was not measured. */
export function describeMemory(metrics: readonly Metrics[]): string[] {
  const bytes = memoryOf(metrics).map(([, value]) => value);
  const [early, last] = [bytes[Math.floor(bytes.length / 10)], bytes.at(-1)];
  if (early === undefined || last === undefined) return [];
  const most = bytes.reduce((a, b) => Math.max(a, b));
  return [
    `Memory after a tenth of the steps: ${formatBytes(early)}; after the last: ${formatBytes(last)}; at most: ${formatBytes(most)}`,
  ];
}
