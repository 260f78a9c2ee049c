/**
 * Runs a sweep: every run in a folder of its own, one after the other, on data that is prepared once for all that agree on
 * it. Runs that are done are left as they are, one that was interrupted goes on, and one that fails does not stop the
 * others. The folder holds
 *
 *     RUN/                       as olmoe train leaves it, apart from the data
 *     data/DIGEST/               prepared data
 *     summary.json  report.html  curves.svg, .png
 */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Backend } from "../backend/backend.ts";
import { parseRecipe, type Recipe } from "../config/recipe.ts";
import { faultyRuns, type Sweep, type SweepRun } from "../config/sweep.io.ts";
import { ConfigError, OlmoeError } from "../errors.ts";
import { readModelConfig } from "../formats/huggingface.io.ts";
import { checkpointsOf, listCheckpoints, newestCheckpoint } from "../formats/runFolder.io.ts";
import { htmlReport } from "../report/html.ts";
import { renderPng, renderSvg } from "../report/render.io.ts";
import { checkWritable, clearUnfinished } from "../train/checkpoint.io.ts";
import { findInitialModel } from "../train/init.io.ts";
import { readMetrics } from "../train/metrics.io.ts";
import { frozenTensors } from "../train/patterns.ts";
import { checkPrecision } from "../train/precision.ts";
import { recipeChanges } from "../train/resume.io.ts";
import type { TrainEvent } from "../train/run.io.ts";
import { train } from "../train/train.io.ts";
import { replaceFile } from "../util/files.io.ts";
import { sweepChart, sweepReport } from "./sweepReport.ts";
import {
  type FailedRun,
  finalEvaluation,
  type RunResult,
  runResult,
  type SweepResult,
  variantResult,
} from "./sweepResult.ts";

/** What a sweep reports while it goes. */
export type SweepEvent =
  | {
      readonly type: "run";
      readonly run: SweepRun;
      readonly index: number;
      readonly state: "starts" | "is done already";
    }
  | { readonly type: "train"; readonly run: SweepRun; readonly event: TrainEvent }
  | { readonly type: "failed"; readonly run: SweepRun; readonly error: Error };

export interface SweepOptions {
  readonly sweep: Sweep;
  /** The sweep's folder. */
  readonly directory: string;
  /** Where fetched packages are kept. */
  readonly cacheDirectory: string;
  readonly backend: Backend;
  /** The backend of a run whose precision is another; default: the one above for all runs. */
  readonly backendOf?: (recipe: Recipe) => Promise<Backend>;
  /** When aborted, the run that is going writes a checkpoint, and the sweep ends. */
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: (event: SweepEvent) => void;
}

export interface SweepOutcome {
  readonly status: "done" | "interrupted";
  readonly result: SweepResult;
  /** Files written; absent when interrupted. */
  readonly report: string | undefined;
  readonly chart: string | undefined;
}

const PICTURE_WIDTH = 1400;

/** The recipe a run's folder was started with; undefined for a new folder. */
async function storedRecipe(directory: string): Promise<Recipe | undefined> {
  const file = join(directory, "recipe.json");
  let text: string;
  try {
    text = await readFile(file, "utf8");
  } catch {
    return undefined;
  }
  try {
    return parseRecipe(JSON.parse(text), file);
  } catch (cause) {
    throw new ConfigError(`${file}: not the recipe of a run`, { cause });
  }
}

async function backendOf({ backend, backendOf }: SweepOptions, recipe: Recipe): Promise<Backend> {
  return (await backendOf?.(recipe)) ?? backend;
}

/** Faults of a run that would end it before its first step. */
async function checkRun({ recipe }: SweepRun, directory: string, options: SweepOptions): Promise<void> {
  checkPrecision(recipe, await backendOf(options, recipe));
  frozenTensors(recipe);
  const stored = await storedRecipe(directory);
  const changes = stored === undefined ? [] : recipeChanges(stored, recipe);
  if (changes.length > 0) throw new ConfigError(`${directory} holds a run of another recipe: ${changes.join(", ")}`);
  if ((await listCheckpoints(checkpointsOf(directory))).length > 0) return;
  await findInitialModel(recipe, options.sweep.baseDirectory, options.signal);
}

/** @throws ConfigError listing what is wrong with any of the runs, before the first one starts. */
async function checkRuns(options: SweepOptions): Promise<void> {
  const faults: string[] = [];
  for (const run of options.sweep.runs) {
    try {
      await checkRun(run, join(options.directory, run.name), options);
    } catch (error) {
      if (!(error instanceof OlmoeError)) throw error;
      faults.push(`run "${run.name}": ${error.message}`);
    }
  }
  if (faults.length > 0) throw faultyRuns(options.sweep.name, faults);
}

/** A folder for all runs that read the same text in the same way. */
function dataDirectory(directory: string, { data, tokenizer, seed }: Recipe): string {
  const sources = data.sources.map(({ weight: _, ...source }) => source);
  const key = JSON.stringify([sources, data.heldOutBytes, tokenizer, data.seed ?? seed]);
  return join(directory, "data", createHash("sha256").update(key).digest("hex").slice(0, 12));
}

/** The result in a run's folder; undefined for a run that is not done. */
async function readResult(run: SweepRun, directory: string): Promise<RunResult | undefined> {
  const metrics = await readMetrics(join(directory, "metrics.jsonl"));
  const final = finalEvaluation(metrics, run.recipe.train.steps);
  if (final === undefined) return undefined;
  const config = await readModelConfig(await newestCheckpoint(directory));
  return runResult({ name: run.name, seed: run.recipe.seed, config }, metrics, final);
}

/** Trains one run to its end. @returns undefined where it was interrupted. */
async function trainRun(run: SweepRun, options: SweepOptions): Promise<RunResult | undefined> {
  const { sweep, cacheDirectory, signal, onEvent } = options;
  const directory = join(options.directory, run.name);
  const { status, decoder } = await train({
    recipe: run.recipe,
    baseDirectory: sweep.baseDirectory,
    directory,
    dataDirectory: dataDirectory(options.directory, run.recipe),
    cacheDirectory,
    backend: await backendOf(options, run.recipe),
    resume: true,
    overrides: run.overrides,
    signal,
    onEvent: (event) => onEvent?.({ type: "train", run, event }),
  });
  decoder.dispose();
  decoder.parameters.dispose();
  return status === "interrupted" ? undefined : readResult(run, directory);
}

/** What each variant changes, as sentences. */
function changesOf({ variants }: Sweep): string[] {
  return variants.map(({ label, set }) => {
    const changes = Object.entries(set).map(([path, value]) => `${path}: ${JSON.stringify(value)}`);
    return `${label}: ${changes.length === 0 ? "the base recipe as it is" : changes.join(", ")}`;
  });
}

/** Writes the page, the chart and the summary. */
async function writeReport(result: SweepResult, { sweep, directory, backend }: SweepOptions) {
  const machine = `${backend.name} ${backend.isa}, ${backend.threads} ${backend.threads === 1 ? "thread" : "threads"}`;
  const svg = await renderSvg(sweepChart(result));
  const page = htmlReport(sweepReport({ result, machine, changes: changesOf(sweep), svg }));
  const [report, chart] = [join(directory, "report.html"), join(directory, "curves.png")];
  await replaceFile(report, (file) => file.writeFile(page));
  await replaceFile(join(directory, "curves.svg"), (file) => file.writeFile(svg));
  await replaceFile(chart, (file) => file.writeFile(renderPng(svg, { width: PICTURE_WIDTH })));
  const summary = `${JSON.stringify({ ...result, machine, report, chart }, null, 2)}\n`;
  await replaceFile(join(directory, "summary.json"), (file) => file.writeFile(summary));
  return { report, chart };
}

/**
 * Runs all of a sweep that is not done yet, and writes its report.
 * @returns also where runs failed: they are in the result with their messages, and are tried again the next time.
 * @throws ConfigError listing what is wrong with any run, ResourceError for a folder that can not be written, before the
 *   first one starts; the signal's reason when it is aborted while data is prepared.
 */
export async function runSweep(options: SweepOptions): Promise<SweepOutcome> {
  const { sweep, directory, signal, onEvent } = options;
  await checkRuns(options);
  await checkWritable(directory);
  await clearUnfinished(directory);
  const done = new Map<SweepRun, RunResult>();
  const failed = new Map<SweepRun, FailedRun>();
  const resultSoFar = (): SweepResult => ({
    name: sweep.name,
    variants: sweep.variants.map((variant) => {
      const runs = sweep.runs.filter((run) => run.variant === variant);
      return variantResult(
        variant,
        runs.flatMap((run) => done.get(run) ?? []),
        runs.flatMap((run) => failed.get(run) ?? []),
      );
    }),
  });
  for (const [index, run] of sweep.runs.entries()) {
    try {
      signal?.throwIfAborted();
      const earlier = await readResult(run, join(directory, run.name));
      onEvent?.({ type: "run", run, index, state: earlier === undefined ? "starts" : "is done already" });
      const result = earlier ?? (await trainRun(run, options));
      if (result === undefined)
        return { status: "interrupted", result: resultSoFar(), report: undefined, chart: undefined };
      done.set(run, result);
    } catch (error) {
      if (signal?.aborted || !(error instanceof Error)) throw error;
      failed.set(run, { name: run.name, error: error.message });
      onEvent?.({ type: "failed", run, error });
    }
  }
  const result = resultSoFar();
  return { status: "done", result, ...(await writeReport(result, options)) };
}
