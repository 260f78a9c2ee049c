/** `olmoe sweep`: trains variants of a recipe, one after the other, and compares them. */
import { join, resolve } from "node:path";
import type { Command } from "commander";
import type { Backend } from "../backend/backend.ts";
import { plannedTokens } from "../config/batchWarmup.ts";
import type { TrainRecipe } from "../config/recipe.ts";
import { readSweep, type Sweep, type SweepRun } from "../config/sweep.io.ts";
import { OlmoeError, TrainingError } from "../errors.ts";
import type { SweepEvent, SweepOutcome } from "../experiments/sweep.io.ts";
import { table } from "../report/text.ts";
import { shownPath } from "../util/shownPath.io.ts";
import { addBackendOptions, type BackendFlags, describeBackend, openChosenBackend } from "./backendOptions.ts";
import { type Session, writeJson } from "./common.ts";
import { CACHE_DIRECTORY } from "./training.ts";
import { TrainView } from "./trainView.ts";

interface SweepFlags extends BackendFlags {
  readonly out?: string;
  readonly set: readonly string[];
  readonly json?: boolean;
}

const HELP = `
Each run has a folder of its own below the sweep's; the data is prepared once for all that agree on it.
Runs that are done are kept, so the same command goes on where Ctrl-C or a failure ended it.

Example:
  $ olmoe sweep recipes/moe-vs-dense.yaml`;

export function register(command: Command, session: Session): void {
  command
    .argument("<sweep>", "a YAML file, such as recipes/moe-vs-dense.yaml")
    .option("--out <folder>", "the sweep's folder (default: runs/ and the sweep's name)")
    .option(
      "--set <key=value>",
      "change a field of all runs' recipes; repeatable",
      (text, all: string[]) => [...all, text],
      [],
    )
    .option("--json", "print the results for programs");
  addBackendOptions(command)
    .addHelpText("after", HELP)
    .action((file: string, flags: SweepFlags) => sweepCommand(file, flags, session));
}

/** Shows one run after the other. */
class SweepView {
  readonly #sweep: Sweep;
  readonly #session: Session;
  #view: TrainView | undefined;

  constructor(sweep: Sweep, session: Session) {
    this.#sweep = sweep;
    this.#session = session;
  }

  handle = (event: SweepEvent): void => {
    if (event.type === "train") this.#view?.handle(event.event);
    else if (event.type === "run") this.#run(event.run, event.index, event.state);
    else {
      this.stop();
      const { run, error } = event;
      this.#print(`  ${run.name}: ${error.message}`);
      if (error instanceof OlmoeError && error.hint !== undefined) this.#print(`  hint: ${error.hint}`);
    }
  };

  /** Takes the live line away. */
  stop(): void {
    this.#view?.stop();
    this.#view = undefined;
  }

  #print = (line: string) => this.#session.stderr.write(`${line}\n`);

  #run({ name, recipe }: SweepRun, index: number, state: string): void {
    this.stop();
    this.#print(`run ${index + 1} of ${this.#sweep.runs.length}, ${name}, ${state}`);
    const { stderr } = this.#session;
    const terminal = process.stderr.isTTY && stderr === process.stderr ? process.stderr : undefined;
    const { train } = recipe;
    this.#view = new TrainView({ steps: train.steps, tokens: plannedTokens(train), print: this.#print, terminal });
  }
}

async function sweepCommand(file: string, flags: SweepFlags, session: Session): Promise<void> {
  const sweep = await readSweep(file, flags.set);
  const directory = resolve(flags.out ?? join("runs", sweep.name));
  const backend = await openChosenBackend(flags, session);
  const backends = new Map<TrainRecipe["precision"], Backend>([["f32", backend]]);
  const { runSweep } = await import("../experiments/sweep.io.ts");
  session.stderr.write(
    `${sweep.name}: ${sweep.runs.length} runs on ${describeBackend(backend)}, in ${shownPath(directory)}\n`,
  );
  const view = new SweepView(sweep, session);
  let outcome: SweepOutcome;
  try {
    outcome = await runSweep({
      sweep,
      directory,
      cacheDirectory: CACHE_DIRECTORY,
      backend,
      backendOf: async ({ train: { precision } }) => {
        const opened = backends.get(precision) ?? (await openChosenBackend(flags, session, precision));
        backends.set(precision, opened);
        return opened;
      },
      signal: session.signal,
      onEvent: view.handle,
    });
  } finally {
    view.stop();
  }
  if (outcome.status === "interrupted") {
    const done = outcome.result.variants.reduce((sum, { runs }) => sum + runs.length, 0);
    session.stderr.write(`stopped after ${done} of ${sweep.runs.length} runs; the same command goes on\n`);
    return;
  }
  await print(outcome, flags.json ?? false, session);
}

/** Prints the table, and fails where runs have failed. */
async function print({ result, report, chart }: SweepOutcome, json: boolean, session: Session): Promise<void> {
  const { describeDifferences, sweepTable } = await import("../experiments/sweepReport.ts");
  if (json) writeJson(session, result);
  else {
    const rows = sweepTable(result);
    const align = rows[0]?.map((_, index) => (index === 0 ? ("left" as const) : ("right" as const))) ?? [];
    const lines = [
      "",
      "Held-out text, bits per byte (lower is better):",
      "",
      ...table(rows, { align })
        .split("\n")
        .map((line) => `  ${line}`),
      "",
      ...describeDifferences(result),
      "",
      `report  ${shownPath(report ?? "")}`,
      `chart   ${shownPath(chart ?? "")}`,
    ];
    session.stdout.write(`${lines.join("\n")}\n`);
  }
  const failed = result.variants.flatMap((variant) => variant.failed);
  if (failed.length > 0) {
    const names = failed.map(({ name }) => name).join(", ");
    throw new TrainingError(`${result.name}: ${failed.length} of the runs failed: ${names}`, {
      hint: "the messages are above and in report.html; the same command tries them again",
    });
  }
}
