/** `olmoe train`: trains a model from a recipe. */
import { dirname, join, resolve } from "node:path";
import type { Command } from "commander";
import { readRecipe } from "../config/recipe.io.ts";
import { addBackendOptions, type BackendFlags, openChosenBackend } from "./backendOptions.ts";
import type { Session } from "./common.ts";
import { runTraining } from "./training.ts";

interface TrainFlags extends BackendFlags {
  readonly out?: string;
  readonly data?: string;
  readonly resume?: boolean;
  readonly set: readonly string[];
  readonly json?: boolean;
  readonly profile?: string | true;
}

const HELP = `
The run's folder holds the prepared data, metrics.jsonl, checkpoints and, at the end, report.html.
Ctrl-C writes a checkpoint and stops; --resume goes on with the same bits as if nothing had happened.

Examples:
  $ olmoe train recipes/quickstart.yaml
  $ olmoe train recipes/quickstart.yaml --out runs/no-balance --set train.loss.balance=0
  $ olmoe train recipes/quickstart.yaml --resume
  $ olmoe train recipes/quickstart.yaml --profile`;

export function register(command: Command, session: Session): void {
  command
    .argument("<recipe>", "a YAML file, such as recipes/quickstart.yaml")
    .option("--out <folder>", "the run's folder (default: runs/ and the recipe's name)")
    .option("--data <folder>", "token files to train on, made by olmoe data build")
    .option("--resume", "go on from the newest checkpoint")
    .option(
      "--set <key=value>",
      "change a field of the recipe; repeatable",
      (text, all: string[]) => [...all, text],
      [],
    )
    .option("--profile [folder]", "profile a few steps (default folder: profile/ in the run's)")
    .option("--json", "print the results for programs");
  addBackendOptions(command)
    .addHelpText("after", HELP)
    .action(async (file: string, flags: TrainFlags) => {
      const overrides =
        flags.data === undefined ? flags.set : [`data={folder: ${JSON.stringify(resolve(flags.data))}}`, ...flags.set];
      const recipe = await readRecipe(file, overrides);
      const directory = resolve(flags.out ?? join("runs", recipe.name));
      const { profile } = flags;
      await runTraining(
        {
          recipe,
          baseDirectory: dirname(resolve(file)),
          directory,
          profile: profile === undefined ? undefined : profile === true ? join(directory, "profile") : resolve(profile),
          resume: flags.resume ?? false,
          json: flags.json ?? false,
          overrides,
          backend: await openChosenBackend(flags, session, recipe.train.precision),
        },
        session,
      );
    });
}
