/** `olmoe data`: from sources to token files, on one machine or on many. */
import { stat } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { type DataRecipe, parseDataRecipe, recipeNameOf } from "../config/data.ts";
import { readDataRecipe } from "../config/dataRecipe.io.ts";
import { applyOverride } from "../config/yaml.io.ts";
import { mergePlan } from "../data/build/merge.io.ts";
import { makePlan } from "../data/build/plan.io.ts";
import { PHASES, type Phase, type Plan } from "../data/build/plan.ts";
import { runPlan } from "../data/build/run.io.ts";
import { indexTokens } from "../data/indexTokens.io.ts";
import type { Manifest } from "../data/manifest.ts";
import { openPreparedData } from "../data/open.io.ts";
import { prepareData, writePlan } from "../data/prepare.io.ts";
import { dataStats } from "../data/stats.io.ts";
import { compositionChart, droppedChart, lengthChart, statsReport } from "../data/statsReport.ts";
import { UsageError } from "../errors.ts";
import { htmlReport } from "../report/html.ts";
import { renderSvg } from "../report/render.io.ts";
import { formatBytes, formatCount, formatDuration } from "../report/text.ts";
import { replaceFile } from "../util/files.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { type Session, wholeNumber, writeJson } from "./common.ts";
import { type InspectFlags, inspect } from "./dataInspect.ts";
import { DataProgress, printManifest } from "./dataView.ts";
import { ProgressLine } from "./progressLine.ts";
import { shareOf } from "./taskShare.ts";
import { CACHE_DIRECTORY } from "./training.ts";

interface BuildFlags {
  readonly out?: string;
  readonly workers: number;
  readonly set: readonly string[];
  readonly json?: boolean;
}

interface IndexFlags {
  readonly tokenizer: string;
  readonly dtype?: string;
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
  $ olmoe data build ~/notes
  $ olmoe train recipes/own-data.yaml --data data/notes`;

const RUN_HELP = `
The same folder may be given to many workers at once: with --task, as the ranks of mpirun, or as an
array job of Slurm. Each does its share of every phase and waits for the others in between; with
--phase only the phases named, for machines that do not run at the same time.

Examples:
  $ olmoe data plan recipe.yaml --out data/mix && olmoe data run data/mix && olmoe data merge data/mix
  $ mpirun -n 4 olmoe data run data/mix
  $ olmoe data run data/mix --task 3/64 --phase read`;

const INSPECT_HELP = `
Tokens alternate between two colours; end-of-text tokens are inverted. A sequence that the paper's
instance filter masks says so.

Examples:
  $ olmoe data inspect data/quickstart --source code --count 1
  $ olmoe data inspect data/quickstart --length 256 --from 40`;

const STATS_HELP = `
Example:
  $ olmoe data stats data/quickstart`;

const INDEX_HELP = `
Writes manifest.json and tokenizer.json into the folder; the first folder of a file's path names its
source. Every id is checked.

Example:
  $ olmoe data index tokens/ --tokenizer tokenizer.json
  $ olmoe train recipe.yaml --data tokens/`;

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
    .command("build")
    .argument("<recipe>", "a YAML file, such as recipes/data/quickstart.yaml, or a folder of text")
    .description("Make token files from a recipe of data, or from a folder of text.")
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
  registerViews(command, session);
}

function registerViews(command: Command, session: Session): void {
  command
    .command("inspect <folder>")
    .description("Show documents or sequences of token files, token by token.")
    .option("--source <name>", "which source (default: the first)")
    .option("--heldout", "what is held out, not what is trained on")
    .option("--from <number>", "the first document or sequence, from 0", wholeNumber("--from", 0), 0)
    .option("--count <count>", "how many", wholeNumber("--count", 1), 3)
    .option("--length <tokens>", "sequences of so many tokens, as the trainer takes them", wholeNumber("--length", 2))
    .option("--tokens <count>", "tokens shown of each", wholeNumber("--tokens", 1), 200)
    .option("--json", "for programs: ids, tokens and places")
    .addHelpText("after", INSPECT_HELP)
    .action((folder: string, flags: InspectFlags) => inspect(folder, flags, session));
  command
    .command("stats <folder>")
    .description("Draw what token files are made of: sources, lengths, what was left out.")
    .option("--out <file>", "the page (default: stats.html in the folder)")
    .option("--json", "print the counts for programs")
    .addHelpText("after", STATS_HELP)
    .action((folder: string, flags: { readonly out?: string; readonly json?: boolean }) =>
      stats(folder, flags, session),
    );
  command
    .command("index <folder>")
    .description("List token files that dolma or OLMo has made, so that they can be trained on.")
    .requiredOption("--tokenizer <file>", "the tokenizer.json they were made with, or a folder that holds it")
    .option("--dtype <type>", "uint16 or uint32 (default: the narrower that holds the vocabulary)")
    .option("--json", "print the manifest")
    .addHelpText("after", INDEX_HELP)
    .action((folder: string, flags: IndexFlags) => indexFolder(folder, flags, session));
}

async function stats(
  folder: string,
  flags: { readonly out?: string; readonly json?: boolean },
  session: Session,
): Promise<void> {
  const directory = resolve(folder);
  const data = await openPreparedData(directory);
  const counts = await dataStats(data, session.signal);
  if (flags.json) {
    writeJson(session, counts);
    return;
  }
  const composition = await renderSvg(compositionChart(counts));
  const lengths = await renderSvg(lengthChart(counts));
  const chart = droppedChart(data.manifest);
  const dropped = chart === undefined ? undefined : await renderSvg(chart);
  const page = htmlReport(statsReport(basename(directory), data.manifest, counts, { composition, lengths, dropped }));
  const place = resolve(flags.out ?? join(directory, "stats.html"));
  await replaceFile(place, (file) => file.writeFile(page));
  printManifest(data.manifest, directory, session);
  session.stdout.write(`page        ${shownPath(place)}\n`);
}

/** Shows how many files some work is through with, and takes the line away at its end. */
async function showingFiles<T>(
  what: string,
  session: Session,
  work: (onProgress: (progress: { readonly files: number; readonly of: number }) => void) => Promise<T>,
): Promise<T> {
  const line = new ProgressLine(session);
  const start = performance.now();
  try {
    return await work(({ files, of }) => {
      const left = ((performance.now() - start) / 1000 / files) * (of - files);
      line.show(files / of, `${what}: ${files} of ${of} files, ${formatDuration(left)} left`);
    });
  } finally {
    line.stop();
  }
}

async function indexFolder(folder: string, flags: IndexFlags, session: Session): Promise<void> {
  const directory = resolve(folder);
  const { dtype } = flags;
  if (dtype !== undefined && dtype !== "uint16" && dtype !== "uint32") {
    throw new UsageError(`--dtype: "${dtype}", expected uint16 or uint32`);
  }
  const { signal } = session;
  const manifest = await showingFiles("checking", session, (onProgress) =>
    indexTokens({ directory, tokenizer: resolve(flags.tokenizer), dtype, signal, onProgress }),
  );
  show(manifest, directory, flags.json, session);
}

/** Entries of a vocabulary that so much text can fill. */
function vocabSizeFor(bytes: number): number {
  if (bytes < 300e3) return 1024;
  return bytes < 3e6 ? 2048 : 4096;
}

/** The recipe of a folder of text that has none. */
async function folderRecipe(folder: string, overrides: readonly string[]): Promise<DataRecipe> {
  const name = recipeNameOf(basename(folder), "text");
  const value: Record<string, unknown> = {
    name,
    tokenizer: { vocabSize: 1024 },
    sources: [{ name, path: folder, maxDocumentChars: 8000 }],
  };
  for (const text of overrides) applyOverride(value, text);
  const recipe = parseDataRecipe(value, `the recipe of ${folder}`);
  if (overrides.some((text) => text.startsWith("tokenizer"))) return recipe;
  const plan = await makePlan({ recipe, baseDirectory: folder, cacheDirectory: CACHE_DIRECTORY });
  return { ...recipe, tokenizer: { ...recipe.tokenizer, vocabSize: vocabSizeFor(sizeOf(plan)) } };
}

async function planOptions(file: string, { out, set }: Pick<BuildFlags, "out" | "set">) {
  const isFolder = (await stat(file).catch(() => undefined))?.isDirectory() ?? false;
  const recipe = isFolder ? await folderRecipe(resolve(file), set) : await readDataRecipe(file, set);
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
  session.stdout.write(
    `${shownPath(directory)}/plan.json: ${formatCount(files)} files, ${formatBytes(sizeOf(plan))}, in ${plan.reads.length} tasks\n`,
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
  const manifest = await showingFiles("verifying", session, (onProgress) =>
    mergePlan({ directory, verify: flags.verify, signal: session.signal, onProgress }),
  );
  show(manifest, directory, flags.json, session);
}
