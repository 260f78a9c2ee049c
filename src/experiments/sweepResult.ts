/** What a sweep came to: each run's held-out loss and curve, and each variant's mean and range over its seeds. */
import type { ModelConfig } from "../config/model.ts";
import type { Variant } from "../config/sweep.ts";
import { countParameters, type ParameterCounts } from "../model/counts.ts";
import { spreadOf } from "../report/spreadChart.ts";
import type { EvalMetrics, Metrics } from "../train/metrics.io.ts";
import { trainingSeconds } from "./runReport.ts";

/** A run that is done. */
export interface RunResult {
  readonly name: string;
  readonly seed: number;
  readonly tokens: number;
  /** Of the training steps. */
  readonly seconds: number;
  /** Of all held-out text at the end. */
  readonly bitsPerByte: number;
  /** The same for each source. */
  readonly sources: Readonly<Record<string, number>>;
  /** Held-out bits per byte by training tokens, all of the same text. */
  readonly curve: readonly (readonly [tokens: number, bitsPerByte: number])[];
  readonly parameters: ParameterCounts;
}

/** A run that is not done. */
export interface FailedRun {
  readonly name: string;
  readonly error: string;
}

export interface Range {
  readonly mean: number;
  readonly least: number;
  readonly most: number;
}

/** The runs of one variant. */
export interface VariantResult {
  readonly name: string;
  readonly label: string;
  readonly runs: readonly RunResult[];
  readonly failed: readonly FailedRun[];
  /** Held-out bits per byte over the runs; absent where none is done. */
  readonly bitsPerByte: Range | undefined;
}

export interface SweepResult {
  readonly name: string;
  readonly variants: readonly VariantResult[];
}

/** The line of the evaluation that ends a run; undefined for one that is not done. */
export function finalEvaluation(metrics: readonly Metrics[], steps: number): EvalMetrics | undefined {
  return metrics.findLast((line): line is EvalMetrics => line.type === "eval" && line.complete && line.step === steps);
}

const tokensScored = ({ sources }: EvalMetrics) => Object.values(sources).reduce((sum, { tokens }) => sum + tokens, 0);

/**
 * Points of a curve. The evaluation at the end scores all of the held-out text: where those before it score a part, it is
 * of another text and left out, unless there is no other.
 */
function curveOf(metrics: readonly Metrics[]): RunResult["curve"] {
  const lines = metrics.filter((line): line is EvalMetrics => line.type === "eval");
  const text = lines[0] === undefined ? 0 : tokensScored(lines[0]);
  return lines
    .filter((line) => tokensScored(line) === text)
    .map(({ tokens, bits_per_byte }) => [tokens, bits_per_byte]);
}

/** @param metrics of a run that is done; @param final its last evaluation. */
export function runResult(
  run: { readonly name: string; readonly seed: number; readonly config: ModelConfig },
  metrics: readonly Metrics[],
  final: EvalMetrics,
): RunResult {
  return {
    name: run.name,
    seed: run.seed,
    tokens: final.tokens,
    seconds: trainingSeconds(metrics),
    bitsPerByte: final.bits_per_byte,
    sources: Object.fromEntries(
      Object.entries(final.sources).map(([name, { bits_per_byte }]) => [name, bits_per_byte]),
    ),
    curve: curveOf(metrics),
    parameters: countParameters(run.config),
  };
}

export function rangeOf(values: readonly number[]): Range | undefined {
  if (values.length === 0) return undefined;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, least: Math.min(...values), most: Math.max(...values) };
}

export function variantResult(
  { name, label }: Variant,
  runs: readonly RunResult[],
  failed: readonly FailedRun[],
): VariantResult {
  return { name, label, runs, failed, bitsPerByte: rangeOf(runs.map(({ bitsPerByte }) => bitsPerByte)) };
}

/** Tokens after which a falling curve first is at `level`, between its points in a straight line; undefined for never. */
function tokensAt(curve: readonly { readonly x: number; readonly mean: number }[], level: number): number | undefined {
  const index = curve.findIndex(({ mean }) => mean <= level);
  const [before, after] = [curve[index - 1], curve[index]];
  if (after === undefined) return undefined;
  if (before === undefined) return after.x;
  return after.x - ((after.x - before.x) * (level - after.mean)) / (before.mean - after.mean);
}

/** How one variant stands against another. */
export interface Difference {
  /** The variant with the lower mean, and the one with the higher. */
  readonly better: VariantResult;
  readonly worse: VariantResult;
  /** Bits per byte between their means. */
  readonly difference: number;
  /** Whether the ranges over the seeds have a value in common. */
  readonly overlap: boolean;
  /** Training tokens after which the better one has the loss that the worse one ends with. */
  readonly reachedAt: number | undefined;
}

/** The first variant against each of the others; without those that have no run. */
export function differences({ variants }: SweepResult): Difference[] {
  const [first, ...others] = variants.filter(({ runs }) => runs.length > 0);
  if (first === undefined) return [];
  return others.map((other) => {
    const mean = ({ bitsPerByte }: VariantResult) => bitsPerByte?.mean ?? Number.NaN;
    const [better, worse] = mean(first) <= mean(other) ? [first, other] : [other, first];
    const curves = [better, worse].map(({ runs }) => spreadOf(runs.map(({ curve }) => curve)));
    const level = curves[1]?.at(-1)?.mean;
    return {
      better,
      worse,
      difference: mean(worse) - mean(better),
      overlap: (worse.bitsPerByte?.least ?? 0) <= (better.bitsPerByte?.most ?? 0),
      reachedAt: level === undefined ? undefined : tokensAt(curves[0] ?? [], level),
    };
  });
}
