/** A sweep as a table, a chart and a page. */
import type { TopLevelSpec } from "vega-lite";
import type { Block, Report } from "../report/html.ts";
import { spreadChart } from "../report/spreadChart.ts";
import { formatCount, formatDuration, formatRate } from "../report/text.ts";
import {
  differences,
  type Range,
  type RunResult,
  rangeOf,
  type SweepResult,
  type VariantResult,
} from "./sweepResult.ts";

const COLUMNS = [
  "variant",
  "parameters",
  "active",
  "runs",
  "tokens each",
  "bits per byte",
  "least .. most",
  "rate",
  "time each",
] as const;

const showRange = ({ least, most }: Range) => `${least.toFixed(4)} .. ${most.toFixed(4)}`;

const meanOf = (runs: readonly RunResult[], value: (run: RunResult) => number) => rangeOf(runs.map(value))?.mean ?? 0;

function variantRow({ label, runs, failed, bitsPerByte }: VariantResult): string[] {
  const [first] = runs;
  const count = failed.length === 0 ? `${runs.length}` : `${runs.length} of ${runs.length + failed.length}`;
  if (first === undefined || bitsPerByte === undefined) return [label, "-", "-", count, "-", "-", "-", "-", "-"];
  const [tokens, seconds] = [meanOf(runs, (run) => run.tokens), meanOf(runs, (run) => run.seconds)];
  return [
    label,
    formatCount(first.parameters.total),
    formatCount(first.parameters.active),
    count,
    formatCount(tokens),
    bitsPerByte.mean.toFixed(4),
    showRange(bitsPerByte),
    formatRate(tokens / seconds, "tokens"),
    formatDuration(seconds),
  ];
}

/** The table: one row for each variant, under the names of the columns. */
export function sweepTable({ variants }: SweepResult): string[][] {
  return [[...COLUMNS], ...variants.map(variantRow)];
}

/** The first variant against each other one, a sentence or two each. */
export function describeDifferences(result: SweepResult): string[] {
  return differences(result).map(({ better, worse, difference, overlap, reachedAt }) => {
    const seeds = Math.min(better.runs.length, worse.runs.length);
    const ranges =
      seeds < 2
        ? "with a single run the difference may be chance"
        : `the ranges of their runs ${overlap ? "overlap" : "do not overlap"}`;
    const tokens = worse.runs[0]?.tokens ?? 0;
    const reached =
      reachedAt === undefined || reachedAt >= tokens
        ? ""
        : ` It is at the last loss of ${worse.label} after ${formatCount(reachedAt)} of ${formatCount(tokens)} tokens (${(tokens / reachedAt).toFixed(2)} times fewer).`;
    return `${better.label} is ${difference.toFixed(4)} bits per byte below ${worse.label}; ${ranges}.${reached}`;
  });
}

/** Held-out loss by training tokens: means over the seeds, and bands from the least to the most. */
export function sweepChart({ name, variants }: SweepResult): TopLevelSpec {
  const done = variants.filter(({ runs }) => runs.length > 0);
  const most = Math.max(0, ...done.map(({ runs }) => runs.length));
  return spreadChart({
    title: `${name}: held-out loss`,
    ...(most > 1 ? { subtitle: "lines: mean over the runs of a variant; bands: least to most" } : {}),
    xTitle: "training tokens",
    yTitle: "bits per byte",
    series: done.map(({ label, runs }) => ({ name: label, runs: runs.map(({ curve }) => curve) })),
  });
}

function tableBlock(caption: string, [head = [], ...rows]: readonly (readonly string[])[]): Block {
  const columns = head.map((name, index) => ({ name, align: index === 0 ? ("left" as const) : ("right" as const) }));
  return { kind: "table", caption, columns, rows };
}

function sourceTable(variants: readonly VariantResult[]): Block {
  const sources = Object.keys(variants.find(({ runs }) => runs.length > 0)?.runs[0]?.sources ?? {});
  const rows = variants
    .filter(({ runs }) => runs.length > 0)
    .map(({ label, runs }) => [
      label,
      ...sources.map((source) => meanOf(runs, (run) => run.sources[source] ?? Number.NaN).toFixed(4)),
    ]);
  return tableBlock("Bits per byte by kind of text, mean over the runs", [["variant", ...sources], ...rows]);
}

function runTable(variants: readonly VariantResult[]): Block {
  const rows = variants.flatMap(({ runs }) =>
    runs.map(({ name, seed, tokens, seconds, bitsPerByte }) => [
      name,
      String(seed),
      bitsPerByte.toFixed(4),
      formatRate(tokens / seconds, "tokens"),
    ]),
  );
  return tableBlock("Every run", [["run", "seed", "bits per byte", "rate"], ...rows]);
}

export interface SweepFacts {
  readonly result: SweepResult;
  /** Backend, instruction set, threads: one line. */
  readonly machine: string;
  /** What each variant changes, as sentences. */
  readonly changes: readonly string[];
  /** The chart, drawn. */
  readonly svg: string;
}

/** Puts the page together. */
export function sweepReport({ result, machine, changes, svg }: SweepFacts): Report {
  const { name, variants } = result;
  const runs = variants.flatMap((variant) => variant.runs);
  const failed = variants.flatMap((variant) => variant.failed);
  return {
    title: `Sweep: ${name}`,
    lead: `${variants.length} variants, ${runs.length} runs done${failed.length > 0 ? `, ${failed.length} not` : ""}, on ${machine}.`,
    sections: [
      {
        heading: "What it came to",
        body: [
          tableBlock("Held-out text, bits per byte: lower is better", sweepTable(result)),
          { kind: "figure", title: "Held-out loss by training tokens", svg },
          { kind: "list", items: describeDifferences(result) },
        ],
      },
      { heading: "In detail", body: [sourceTable(variants), runTable(variants)] },
      { heading: "What was changed", body: [{ kind: "list", items: changes }] },
      ...(failed.length === 0
        ? []
        : [
            {
              heading: "What failed",
              body: [{ kind: "list" as const, items: failed.map((run) => `${run.name}: ${run.error}`) }],
            },
          ]),
    ],
  };
}
