/**
 * What every benchmark shares: interleaved repetitions, their statistics, the description of the machine, and rows for
 * people and for programs. Values are rates (larger is better), so that a ratio above 1 means that this library is faster.
 */
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";
import type { InstructionSet, Precision } from "../src/backend/backend.ts";

/** Share of the CPUs that other programs may take without spoiling a ratio. */
const MAX_OTHER_LOAD = 0.1;

/** Taken before the first repetition, because the benchmark itself is load. */
const loadAtStart = loadavg()[0] ?? 0;

/** What every benchmark is asked. */
export interface BenchOptions {
  readonly repetitions: number;
  readonly peers: boolean;
  /** Left out: all that the benchmark covers. */
  readonly backend?: "native" | "wasm";
  readonly isa?: InstructionSet;
  /** Of matrix products; default f32. */
  readonly precision?: Precision;
  readonly threads?: number;
  readonly signal: AbortSignal;
  /** Is told what is not part of the result, such as a peer that is missing. */
  readonly notice: (text: string) => void;
}

/** One side of a comparison. */
export interface Contender {
  readonly name: string;
  /** Does the work once and returns its rate in the unit of the row. */
  run(): number | Promise<number>;
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly instructionSets: readonly string[];
  readonly memoryGiB: number;
  readonly node: string;
  /** Load average of the last minute, when the program started. */
  readonly load: number;
}

/** One line of `--json`. */
export interface Row {
  readonly bench: string;
  readonly case: string;
  /** Median of the repetitions. */
  readonly value: number;
  readonly unit: string;
  readonly min: number;
  readonly max: number;
  /** Medians of the peers, in the same unit. */
  readonly peers: Readonly<Record<string, number>>;
  /** Ours divided by theirs. */
  readonly ratios: Readonly<Record<string, number>>;
  /** What the machine allows, measured in the same repetitions, in the same unit. */
  readonly limit: number;
  /** Share of all CPUs that other programs took while the contenders rested. Above 0.1 the ratios are not to be used. */
  readonly otherLoad: number;
  readonly machine: Machine;
}

/** Median, least and greatest of at least one finite value. */
export function summarize(values: readonly number[]): Summary {
  if (values.length === 0 || !values.every(Number.isFinite)) {
    throw new Error(`internal: statistics need finite values, got [${values.join(", ")}]`);
  }
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle]!;
  const median = sorted.length % 2 === 1 ? upper : (sorted[middle - 1]! + upper) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

export interface InterleaveOptions {
  readonly repetitions: number;
  /** Rounds before the first that counts. */
  readonly warmUp?: number;
  /** Rest after each run: threads of a pool spin for a while, and must not slow the next contender. */
  readonly restMs?: number;
  readonly signal?: AbortSignal;
}

export interface Measurement {
  /** By name of the contender. */
  readonly summaries: ReadonlyMap<string, Summary>;
  readonly otherLoad: number;
}

/** Milliseconds of all CPUs since the machine started: those in use, and all. */
function cpuTimes(): { busy: number; total: number } {
  let [busy, total] = [0, 0];
  for (const { times } of cpus()) {
    const used = times.user + times.nice + times.sys + times.irq;
    busy += used;
    total += used + times.idle;
  }
  return { busy, total };
}

/**
 * Runs all contenders in turn, round after round, so that a change in clock rate or load meets all of them alike. Other
 * programs do not: a pool that splits work evenly and spins at its barriers, such as OpenMP's, loses far more to them
 * than one that hands out tiles. So the CPUs are watched in the second half of each rest, when no contender runs.
 *
 * @throws whatever a contender throws, and an AbortError when the signal is aborted.
 */
export async function interleave(
  contenders: readonly Contender[],
  { repetitions, warmUp = 1, restMs = 40, signal }: InterleaveOptions,
): Promise<Measurement> {
  const values = new Map<string, number[]>(contenders.map(({ name }) => [name, []]));
  const rest = () => sleep(restMs / 2, undefined, signal ? { signal } : {});
  let [busy, total] = [0, 0];
  for (let round = -warmUp; round < repetitions; round++) {
    for (const contender of contenders) {
      const value = await contender.run();
      if (round >= 0) values.get(contender.name)!.push(value);
      await rest();
      const before = cpuTimes();
      await rest();
      const after = cpuTimes();
      busy += after.busy - before.busy;
      total += after.total - before.total;
    }
  }
  const summaries = new Map([...values].map(([name, list]) => [name, summarize(list)]));
  return { summaries, otherLoad: total > 0 ? busy / total : 0 };
}

export interface RowParts {
  readonly bench: string;
  readonly case: string;
  readonly unit: string;
  readonly machine: Machine;
  /** Names of the contenders that are not peers. */
  readonly ours: string;
  readonly limit: string;
}

/** Makes a row of the summaries: every contender besides `ours` and `limit` is a peer. */
export function toRow(parts: RowParts, { summaries, otherLoad }: Measurement): Row {
  const ours = summaries.get(parts.ours);
  const limit = summaries.get(parts.limit);
  if (ours === undefined || limit === undefined) {
    throw new Error(
      `internal: a row needs "${parts.ours}" and "${parts.limit}", got ${[...summaries.keys()].join(", ")}`,
    );
  }
  const peers = [...summaries].filter(([name]) => name !== parts.ours && name !== parts.limit);
  return {
    bench: parts.bench,
    case: parts.case,
    value: ours.median,
    unit: parts.unit,
    min: ours.min,
    max: ours.max,
    peers: Object.fromEntries(peers.map(([name, { median }]) => [name, median])),
    ratios: Object.fromEntries(peers.map(([name, { median }]) => [name, ours.median / median])),
    limit: limit.median,
    otherLoad,
    machine: parts.machine,
  };
}

/** Bits of `Kernels.cpuFeatures`, lowest first. */
const FEATURES = ["AVX2+FMA", "AVX-512", "AVX512-BF16", "AVX512-VNNI", "NEON", "SIMD128", "AMX-BF16"];

/** @param features what `Kernels.cpuFeatures` of the fastest backend returns. */
export function describeMachine(features: number): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
    instructionSets: FEATURES.filter((_, bit) => (features >> bit) & 1),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    load: loadAtStart,
  };
}

/** The machine in one line. */
export function formatMachine({ cpu, cores, instructionSets, memoryGiB, node, load }: Machine): string {
  const sets = instructionSets.length > 0 ? ` (${instructionSets.join(", ")})` : "";
  return `${cpu}, ${cores} cores${sets}, ${memoryGiB} GiB, Node ${node}, load average ${load.toFixed(2)}`;
}

/** Three significant digits below 100, whole numbers above. */
function formatRate(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en-US");
  return value.toPrecision(3);
}

function formatShare(share: number): string {
  return `${(100 * share).toFixed(0)} %`;
}

/** What to say of rows that were measured beside other programs; nothing when there are none. */
export function loadWarning(rows: readonly Row[]): string | undefined {
  const disturbed = rows.filter(({ otherLoad }) => otherLoad > MAX_OTHER_LOAD).length;
  if (disturbed === 0) return undefined;
  return `${disturbed} of ${rows.length} rows are not to be used: other programs took over ${formatShare(MAX_OTHER_LOAD)} of the CPUs. Stop them and measure again.`;
}

/** Rows as an aligned table; a peer that a row was not compared with is shown as a dash. */
export function formatTable(rows: readonly Row[]): string {
  const peers = [...new Set(rows.flatMap((row) => Object.keys(row.peers)))];
  const lines = [["case", "median", "min .. max", "unit", "limit", "share", "other load", ...peers]];
  for (const row of rows) {
    lines.push([
      row.case,
      formatRate(row.value),
      `${formatRate(row.min)} .. ${formatRate(row.max)}`,
      row.unit,
      formatRate(row.limit),
      formatShare(row.value / row.limit),
      formatShare(row.otherLoad),
      ...peers.map((peer) => {
        const value = row.peers[peer];
        return value === undefined ? "-" : `${formatRate(value)} (${row.ratios[peer]!.toFixed(2)}x)`;
      }),
    ]);
  }
  const widths = lines[0]!.map((_, column) => Math.max(...lines.map((line) => line[column]!.length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}
