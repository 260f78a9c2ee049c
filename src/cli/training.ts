/** What `train` and `quickstart` share: a run on the terminal from its recipe to its report. */
import { homedir } from "node:os";
import { join } from "node:path";
import type { Backend } from "../backend/backend.ts";
import { plannedTokens } from "../config/batchWarmup.ts";
import type { Recipe } from "../config/recipe.ts";
import type { RunSummary } from "../experiments/summary.io.ts";
import { formatCount, formatDuration, table } from "../report/text.ts";
import { train } from "../train/train.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { describeBackend } from "./backendOptions.ts";
import { type Session, writeJson } from "./common.ts";
import { Forecast } from "./forecast.ts";
import { RunProfile } from "./profiling.ts";
import { TrainView } from "./trainView.ts";

/** Fetched packages are kept here, for all runs of this user. */
export const CACHE_DIRECTORY = join(homedir(), ".cache", "olmoe");

export interface TrainingOptions {
  readonly recipe: Recipe;
  /** Relative paths in the recipe start here. */
  readonly baseDirectory: string;
  readonly directory: string;
  readonly resume: boolean;
  readonly json: boolean;
  /** What the command line changed in the recipe, as `key.path=value`. */
  readonly overrides: readonly string[];
  readonly backend: Backend;
  /** Folder for the profile of a few steps; absent: none is made. */
  readonly profile?: string | undefined;
}

/** Prints a run's results: the table, samples, what the experts serve, and where things are. */
export function printSummary(summary: RunSummary, session: Session): void {
  const { sources, comparison, samples, experts } = summary;
  const print = (line = "") => session.stdout.write(`${line}\n`);
  print(
    `\nHeld-out text, bits per byte (lower is better), after ${formatCount(summary.tokens)} tokens in ${formatDuration(summary.trainingSeconds)}:`,
  );
  print();
  const rows = comparison.map(({ name, bySource, all }) => [
    name,
    ...[...bySource, all].map((bits) => bits.toFixed(3)),
  ]);
  const align = ["left" as const, ...sources.map(() => "right" as const), "right" as const];
  print(
    table([["", ...sources, "all"], ...rows], { align })
      .split("\n")
      .map((line) => `  ${line}`)
      .join("\n"),
  );
  if (samples.length > 0) print("\nWhat it writes:");
  for (const { source, prompt, text } of samples) {
    const oneLine = `${prompt}|${text}`.replace(/\s+/g, " ").replace(/\p{Cc}/gu, "");
    print(`\n  ${source}: ${oneLine.slice(0, 400)}`);
  }
  if (experts.length > 0) print("\nWhich experts fire:");
  for (const line of experts) print(`  ${line}`);
  print();
  print(`report      ${shownPath(summary.report)}`);
  if (summary.picture !== undefined) print(`picture     ${shownPath(summary.picture)}`);
  print(`checkpoint  ${shownPath(summary.checkpoint)}`);
  if (samples.length > 0) print(`\nNext: npx olmoe run ${shownPath(summary.checkpoint)} -p "Call me"`);
}

/**
 * Runs a recipe to its end or to Ctrl-C, shows it, writes the report.
 * @returns the summary; undefined when the run was interrupted, or has no held-out text to sum up.
 */
export async function runTraining(options: TrainingOptions, session: Session): Promise<RunSummary | undefined> {
  const { recipe, directory, json, backend } = options;
  const print = (line: string) => session.stderr.write(`${line}\n`);
  const { signal } = session;
  print(`${recipe.name}: training on ${describeBackend(backend)}, in ${shownPath(directory)}`);
  const terminal = process.stderr.isTTY && session.stderr === process.stderr ? process.stderr : undefined;
  const view = new TrainView({ steps: recipe.train.steps, tokens: plannedTokens(recipe.train), print, terminal });
  const profile =
    options.profile === undefined
      ? undefined
      : new RunProfile(backend, recipe.name, options.profile, (text) => view.note(text));
  const forecast = new Forecast({ backend, recipe, directory, signal, print: (line) => view.note(line) });
  let outcome: Awaited<ReturnType<typeof train>>;
  try {
    outcome = await train({
      recipe,
      baseDirectory: options.baseDirectory,
      directory,
      cacheDirectory: CACHE_DIRECTORY,
      backend: profile?.profiler.backend ?? backend,
      resume: options.resume,
      overrides: options.overrides,
      signal,
      onPrepared: (config) => {
        profile?.begin();
        return forecast.begin(config);
      },
      onEvent: (event) => {
        view.handle(event);
        forecast.handle(event);
        profile?.handle(event);
      },
      onPhase: profile?.profiler.onPhase,
    });
    view.finish();
    view.stop();
    await profile?.finish();
    await forecast.finish();
  } finally {
    view.stop();
  }
  if (outcome.status === "interrupted") {
    print(
      `stopped after step ${outcome.step} of ${recipe.train.steps}; the same command ${options.resume ? "" : "with --resume "}goes on`,
    );
    return undefined;
  }
  if (outcome.heldOut.length === 0) {
    const { step, tokens, checkpoint = "" } = outcome;
    print(`no text is held out, so there is nothing to compare with\ncheckpoint  ${shownPath(checkpoint)}`);
    if (json) writeJson(session, { name: recipe.name, step, tokens, checkpoint });
    return undefined;
  }
  print("  comparing with baselines, writing the report");
  const { writeRunReport } = await import("../experiments/runReport.io.ts");
  const summary = await writeRunReport({ backend, recipe, directory, outcome, signal });
  if (json) writeJson(session, summary);
  else printSummary(summary, session);
  return summary;
}
