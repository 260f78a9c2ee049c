/** `olmoe quickstart`: the main job on real text, from nothing to a trained model and its report. */
import { join, resolve } from "node:path";
import type { Command } from "commander";
import type { Backend } from "../backend/backend.ts";
import { readRecipe } from "../config/recipe.io.ts";
import { readSummary } from "../experiments/summary.io.ts";
import { PACKAGE_ROOT } from "../util/packageRoot.io.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { addBackendOptions, type BackendFlags, describeBackend, openChosenBackend } from "./backendOptions.ts";
import { type Session, writeJson } from "./common.ts";
import { printSummary, runTraining } from "./training.ts";

interface QuickstartFlags extends BackendFlags {
  readonly smoke?: boolean;
  readonly out?: string;
  readonly json?: boolean;
}

const HELP = `
Fetches four kinds of text from npm packages, trains a tokenizer and a small mixture of experts on
them for about five minutes, and shows what it learned. A second run goes on, or says that it is done.

Example:
  $ olmoe quickstart`;

/** Shorter runs: for a check in about a minute, and for machines without native kernels, in about five. */
const SMOKE = ["name=quickstart-smoke", "train.steps=120", "train.schedule.warmupSteps=20", "train.evalEvery=60"];
const WASM = ["name=quickstart-wasm", "train.steps=800", "train.schedule.warmupSteps=60", "train.evalEvery=200"];
const SLOW = ["name=quickstart-slow", "train.steps=400", "train.schedule.warmupSteps=40", "train.evalEvery=100"];

function cutOf({ name, threads }: Backend): readonly string[] {
  if (name === "native") return [];
  return threads > 1 ? WASM : SLOW;
}

export function register(command: Command, session: Session): void {
  command
    .option("--smoke", "about a minute in all, to see that everything works")
    .option("--out <folder>", "the run's folder (default: runs/quickstart)")
    .option("--json", "print the results for programs");
  addBackendOptions(command)
    .addHelpText("after", HELP)
    .action((flags: QuickstartFlags) => quickstart(flags, session));
}

async function quickstart(flags: QuickstartFlags, session: Session): Promise<void> {
  const backend = await openChosenBackend(flags, session);
  const overrides = flags.smoke ? SMOKE : cutOf(backend);
  const file = join(PACKAGE_ROOT, "recipes", "quickstart.yaml");
  const recipe = await readRecipe(file, overrides);
  const directory = resolve(flags.out ?? join("runs", recipe.name));
  const done = await readSummary(directory);
  if (done?.name === recipe.name) {
    session.stderr.write(
      `${recipe.name}: done already, in ${shownPath(directory)}; remove that folder to start over\n`,
    );
    if (flags.json) writeJson(session, done);
    else printSummary(done, session);
    return;
  }
  if (overrides === WASM || overrides === SLOW) {
    session.stderr.write(`olmoe: on ${describeBackend(backend)}, the run is cut to ${recipe.train.steps} steps\n`);
  }
  const options = { recipe, overrides, baseDirectory: join(PACKAGE_ROOT, "recipes"), directory, resume: true, backend };
  await runTraining({ ...options, json: flags.json ?? false }, session);
}
