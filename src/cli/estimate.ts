/** `olmoe estimate`: what a recipe will take, or a model, before anything is trained or loaded. */
import { stat } from "node:fs/promises";
import { freemem, totalmem } from "node:os";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import type { Backend } from "../backend/backend.ts";
import { resolveModel } from "../config/presets.ts";
import { readRecipe } from "../config/recipe.io.ts";
import type { Recipe } from "../config/recipe.ts";
import { UsageError } from "../errors.ts";
import { readModelConfig } from "../formats/huggingface.io.ts";
import type { ParameterCounts } from "../model/counts.ts";
import { formatBytes, formatCount, formatDuration, table } from "../report/text.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import { estimateModel, estimateRun, type ModelEstimate, type RunEstimate } from "../train/estimate.ts";
import { addBackendOptions, type BackendFlags, describeBackend, openChosenBackend } from "./backendOptions.ts";
import { type Session, writeJson } from "./common.ts";
import { resolveModelFolder } from "./modelFolder.ts";

interface EstimateFlags extends BackendFlags {
  readonly set: readonly string[];
  readonly json?: boolean;
}

const HELP = `
For a recipe: parameters, memory by part, FLOPs of a token, disk, and the time of all steps. The time is
measured: a few real steps of the same model with one and two layers, which takes some seconds.
For a model: parameters, memory by part with a full context, FLOPs of a token.

Examples:
  $ olmoe estimate recipes/quickstart.yaml
  $ olmoe estimate recipes/quickstart.yaml --set model.preset=small --set train.recompute=all
  $ olmoe estimate runs/quickstart --json`;

export function register(command: Command, session: Session): void {
  command
    .argument("<recipe|model>", "a YAML file, a folder with config.json, or the folder of a training run")
    .option(
      "--set <key=value>",
      "change a field of the recipe; repeatable",
      (text, all: string[]) => [...all, text],
      [],
    )
    .option("--json", "for programs");
  addBackendOptions(command)
    .addHelpText("after", HELP)
    .action(async (target: string, flags: EstimateFlags) => {
      const isModel = await stat(target).then(
        (facts) => facts.isDirectory(),
        () => false,
      );
      if (isModel) await printModel(target, flags, session);
      else await printRun(target, flags, session);
    });
}

async function printModel(target: string, flags: EstimateFlags, session: Session): Promise<void> {
  if (flags.set.length > 0) {
    throw new UsageError(`--set ${flags.set[0]}: a model's folder has no fields to change`, {
      hint: "name a recipe to try changes on",
    });
  }
  const config = await readModelConfig(await resolveModelFolder(target));
  const estimate = estimateModel(config, process.memoryUsage.rss());
  if (flags.json) writeJson(session, estimate);
  else session.stdout.write(`${table(describeModel(estimate))}\n`);
}

async function printRun(file: string, flags: EstimateFlags, session: Session): Promise<void> {
  const recipe = await readRecipe(file, flags.set);
  const backend = await openChosenBackend(flags, session, recipe.train.precision);
  const estimate = await estimateRecipe(recipe, dirname(resolve(file)), backend, session.signal);
  if (flags.json) writeJson(session, estimate);
  else session.stdout.write(`${table(describeRun(estimate, recipe, describeBackend(backend)))}\n`);
}

/**
 * Estimates a recipe's run. A tokenizer that the run is to train is taken to reach its size.
 * @param baseDirectory where relative paths in the recipe start.
 */
export async function estimateRecipe(
  recipe: Recipe,
  baseDirectory: string,
  backend: Backend,
  signal: AbortSignal,
): Promise<RunEstimate> {
  const { file, vocabSize } = recipe.tokenizer;
  const tokenizer = file === undefined ? { vocabSize } : await loadTokenizer(resolve(baseDirectory, file));
  // The special tokens of a preset are of another vocabulary.
  const facts = { vocabSize: tokenizer.vocabSize, eosTokenId: null, padTokenId: null };
  const config = resolveModel(recipe.model, facts);
  return estimateRun(config, recipe.train, {
    backend,
    freeBytes: freemem() / 2,
    residentBytes: () => process.memoryUsage.rss(),
    signal,
  });
}

function parameterRow({ total, active }: ParameterCounts): string[] {
  const count = (value: number) => `${value.toLocaleString("en-US")} (${formatCount(value)})`;
  return ["parameters", `${count(total)}, ${count(active)} active for each token`];
}

/** The prefixes of bytes: 2.63 GFLOP, not 2.63 billion. */
const formatFlops = (flops: number) => formatBytes(flops).replace(/B$/, "FLOP");

const flopsRow = ({ forward, training }: RunEstimate["flops"], at: number): string[] => [
  "arithmetic",
  `${formatFlops(forward)} a token forward, ${formatFlops(training)} in training, at ${at} tokens in sequence`,
];

/** Memory by part; parts that are empty are left out. */
function memoryRows(memory: object, peakBytes: number, notes: Readonly<Record<string, string>>): string[][] {
  const parts = Object.entries(memory).filter(([, bytes]) => bytes > 0);
  const beyond = peakBytes > totalmem() ? "more than" : "of";
  return [
    ["memory", `${formatBytes(peakBytes)} at the peak, ${beyond} the ${formatBytes(totalmem())} of this machine`],
    ...parts.map(([part, bytes]) => [
      `  ${part}`,
      `${formatBytes(bytes).padStart(7)}${notes[part] === undefined ? "" : `  ${notes[part]}`}`,
    ]),
  ];
}

function describeRun(estimate: RunEstimate, { train, name }: Recipe, backend: string): string[][] {
  const { batchSize, batchWarmup, microBatchSize = batchSize, sequenceLength, keep, recompute } = train;
  const { seconds, secondsPerStep } = estimate;
  const layers = recompute === "none" ? "" : `, ${recompute === "all" ? "all" : recompute.length} layers recomputed`;
  return [
    ["recipe", name],
    parameterRow(estimate.parameters),
    ...memoryRows(estimate.memory, estimate.peakBytes, {
      activations: `${microBatchSize} x ${sequenceLength} tokens at a time${layers}`,
      evaluation: "beside them, while held-out text is scored",
      runtime: "measured here; the text that a run holds is not in it",
    }),
    flopsRow(estimate.flops, sequenceLength),
    [
      "tokens",
      `${formatCount(estimate.tokens)} in ${estimate.steps.toLocaleString("en-US")} steps of ${batchWarmup.length > 0 ? "up to " : ""}${batchSize} x ${sequenceLength}`,
    ],
    [
      "disk",
      `${formatBytes(estimate.diskBytes)}: ${keep + 1} checkpoints of ${formatBytes(estimate.checkpointBytes)} while one is written`,
    ],
    [
      "time",
      seconds === null || secondsPerStep === null
        ? "unknown: not even two layers fit in the memory that is free"
        : `${formatDuration(seconds)} of steps, ${formatDuration(secondsPerStep)} each, measured on ${backend}`,
    ],
  ];
}

function describeModel(estimate: ModelEstimate): string[][] {
  return [
    parameterRow(estimate.parameters),
    ...memoryRows(estimate.memory, estimate.peakBytes, {
      weights: "in f32",
      cache: `keys and values of ${estimate.context.toLocaleString("en-US")} tokens`,
      activations: "of a prompt of that length",
    }),
    flopsRow(estimate.flops, estimate.context),
  ];
}
