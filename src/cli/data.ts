/** `olmoe data`: from sources to token files, on one machine or on many. */
import { availableParallelism } from "node:os";
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { readDataRecipe } from "../config/dataRecipe.io.ts";
import { mergePlan } from "../data/build/merge.io.ts";
import { makePlan } from "../data/build/plan.io.ts";
import { PHASES, type Phase, type Plan, taskCount } from "../data/build/plan.ts";
import { runPlan } from "../data/build/run.io.ts";
import type { Manifest } from "../data/manifest.ts";
import { prepareData, writePlan } from "../data/prepare.io.ts";
import { UsageError } from "../errors.ts";
import { formatBytes, formatCount } from "../report/text.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { type Session, wholeNumber, writeJson } from "./common.ts";
import { DataProgress, printManifest } from "./dataView.ts";
import { shareOf } from "./taskShare.ts";
import { CACHE_DIRECTORY } from "./training.ts";

interface BuildFlags {
  readonly out?: string;
  readonly workers: number;
  readonly set: readonly string[];
  readonly json?: boolean;
}

interface RunFlags {
  readonly workers: number;
  readonly task?: string;
  readonly phase: readonly Phase[];
}

const BUILD_HELP = `
Reads the sources, drops and masks what the filters say, trains or loads the tokenizer, and writes
token files that olmoe train and OLMo's trainer read. A second run, or one after an interruption,
does only what is missing; the bytes are the same, whatever the number of workers.

Examples:
  $ olmoe data build recipes/data/quickstart.yaml
  $ olmoe train recipes/own-data.yaml --data data/quickstart`;

const RUN_HELP = `
The same folder may be given to many workers at once: with --task, as the ranks of mpirun, or as an
array job of Slurm. Each does its share of every phase and waits for the others in between; with
--phase only the phases named, for machines that do not run at the same time.

Examples:
  $ olmoe data plan recipe.yaml --out data/mix && olmoe data run data/mix && olmoe data merge data/mix
  $ mpirun -n 4 olmoe data run data/mix
  $ olmoe data run data/mix --task 3/64 --phase read`;

const MERGE_HELP = `
Example:
  $ olmoe data merge data/mix --verify`;

function withSet(command: Command): Command {
  const collect = (text: string, all: string[]) => [...all, text];
  return command.option("--set <key=value>", "change a field of the recipe; repeatable", collect, []);
}

function withWorkers(command: Command): Command {
  const cores = availableParallelism();
  return command.option("--workers <count>", "threads", wholeNumber("--workers", 1), cores);
}

/** Reads one of the phases. @throws UsageError for another word. */
function phaseNamed(text: string, all: readonly Phase[]): Phase[] {
  const phase = PHASES.find((name) => name === text);
  if (phase === undefined) throw new UsageError(`--phase: "${text}", expected one of ${PHASES.join(", ")}`);
  return [...all, phase];
}

export function register(command: Command, session: Session): void {
  const build = command
    .command("build <recipe>")
    .description("Make token files from a recipe of data.")
    .option("--out <folder>", "where they go (default: data/ and the recipe's name)")
    .option("--json", "print the manifest");
  withSet(withWorkers(build))
    .addHelpText("after", BUILD_HELP)
    .action((file: string, flags: BuildFlags) => buildData(file, flags, session));
  const plan = command
    .command("plan <recipe>")
    .description("List the tasks that make a recipe's data, to be run by many workers.")
    .option("--out <folder>", "where the data will go (default: data/ and the recipe's name)");
  withSet(plan)
    .addHelpText("after", RUN_HELP)
    .action((file: string, flags: Omit<BuildFlags, "workers">) => planData(file, flags, session));
  const run = command
    .command("run <folder>")
    .description("Run the tasks of a plan, or one worker's share of them.")
    .option("--task <i/n>", "the i-th of n workers, from 1 (default: the rank of mpirun or Slurm, if any)")
    .option("--phase <name>", `only this phase; repeatable: ${PHASES.join(", ")}`, phaseNamed, []);
  withWorkers(run)
    .addHelpText("after", RUN_HELP)
    .action((folder: string, flags: RunFlags) => runData(folder, flags, session));
  command
    .command("merge <folder>")
    .description("Check that all tasks of a plan are done, and write the manifest.")
    .option("--verify", "read all token files again and compare their SHA-256")
    .option("--json", "print the manifest")
    .addHelpText("after", MERGE_HELP)
    .action((folder: string, flags: { readonly verify?: boolean; readonly json?: boolean }) =>
      mergeData(folder, flags, session),
    );
}

async function planOptions(file: string, { out, set }: Pick<BuildFlags, "out" | "set">) {
  const recipe = await readDataRecipe(file, set);
  return {
    recipe,
    baseDirectory: dirname(resolve(file)),
    cacheDirectory: CACHE_DIRECTORY,
    directory: resolve(out ?? join("data", recipe.name)),
  };
}

function show(manifest: Manifest, directory: string, json: boolean | undefined, session: Session): void {
  if (json) writeJson(session, manifest);
  else printManifest(manifest, directory, session);
}

async function buildData(file: string, flags: BuildFlags, session: Session): Promise<void> {
  const options = await planOptions(file, flags);
  const { directory } = options;
  const view = new DataProgress(session);
  try {
    const { manifest, reused } = await prepareData({
      ...options,
      workers: flags.workers,
      signal: session.signal,
      onProgress: view.show,
    });
    view.stop();
    if (reused) session.stderr.write(`${shownPath(directory)}: done already\n`);
    show(manifest, directory, flags.json, session);
  } finally {
    view.stop();
  }
}

function sizeOf({ reads }: Plan): number {
  return reads.reduce((sum, { files }) => sum + files.reduce((own, { bytes }) => own + bytes, 0), 0);
}

async function planData(file: string, flags: Pick<BuildFlags, "out" | "set">, session: Session): Promise<void> {
  const { directory, ...options } = await planOptions(file, flags);
  const plan = await makePlan({ ...options, signal: session.signal });
  await writePlan(directory, plan);
  const files = plan.reads.reduce((sum, read) => sum + read.files.length, 0);
  const tasks = PHASES.map((phase) => `${taskCount(plan, phase)} ${phase}`).join(", ");
  session.stdout.write(
    `${shownPath(directory)}/plan.json: ${formatCount(files)} files, ${formatBytes(sizeOf(plan))}; tasks: ${tasks}\n`,
  );
}

async function runData(folder: string, flags: RunFlags, session: Session): Promise<void> {
  const directory = resolve(folder);
  const view = new DataProgress(session);
  try {
    await runPlan({
      directory,
      workers: flags.workers,
      share: shareOf(flags.task, process.env),
      phases: flags.phase.length === 0 ? undefined : flags.phase,
      signal: session.signal,
      onProgress: view.show,
    });
  } finally {
    view.stop();
  }
}

async function mergeData(
  folder: string,
  flags: { readonly verify?: boolean; readonly json?: boolean },
  session: Session,
): Promise<void> {
  const directory = resolve(folder);
  const manifest = await mergePlan({ directory, verify: flags.verify, signal: session.signal });
  show(manifest, directory, flags.json, session);
}
