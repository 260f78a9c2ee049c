/** The commands and how they end: help, dispatch, exit codes and the messages of errors. */
import { Command, CommanderError } from "commander";
import { OlmoeError, UsageError } from "../errors.ts";
import { PACKAGE_VERSION } from "../util/packageRoot.io.ts";
import type { Session } from "./common.ts";

/** What the file of a command exports: adds arguments, options, an example and the action. */
export type Register = (command: Command, session: Session) => void;

interface Entry {
  readonly summary: string;
  readonly load: () => Promise<{ readonly register: Register }>;
}

/** In the order of the help. A command's file is loaded only when it is named. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  quickstart: { summary: "train a small model on real text and try it", load: () => import("./quickstart.ts") },
  doctor: { summary: "show what this machine offers and which backend runs", load: () => import("./doctor.ts") },
  data: { summary: "make token files from text, look into them", load: () => import("./data.ts") },
  train: { summary: "train a model from a recipe", load: () => import("./train.ts") },
  sweep: { summary: "train variants of a recipe and compare them", load: () => import("./sweep.ts") },
  estimate: { summary: "say what a recipe or a model will take", load: () => import("./estimate.ts") },
  run: { summary: "continue a text", load: () => import("./run.ts") },
  chat: { summary: "talk with a model", load: () => import("./chat.ts") },
  score: { summary: "say how likely a model finds each line of a text", load: () => import("./score.ts") },
  perplexity: { summary: "say how well a model predicts a file", load: () => import("./perplexity.ts") },
  trace: { summary: "write down which experts every token is sent to", load: () => import("./trace.ts") },
  analyze: {
    summary: "say what routing traces show: statistics, figures, a report",
    load: () => import("./analyze.ts"),
  },
  explore: { summary: "show routing, texts and training runs in a page", load: () => import("./explore.ts") },
  ablate: { summary: "measure what a model loses without each expert", load: () => import("./ablate.ts") },
  steer: {
    summary: "find the experts that tell two kinds of text apart, and use them",
    load: () => import("./steer.ts"),
  },
  info: { summary: "describe a model without loading it", load: () => import("./info.ts") },
  convert: { summary: "convert a model between GGUF, Hugging Face and OLMo", load: () => import("./convert.ts") },
  quantize: { summary: "store a model in fewer bits", load: () => import("./quantize.ts") },
  forward: { summary: "write logits, routing, losses and gradients of one pass", load: () => import("./forward.ts") },
  tokenizer: { summary: "train a tokenizer, encode and decode text", load: () => import("./tokenizer.ts") },
};

const REPORT = "this is a defect in olmoe: please report it, with the command and the output of --debug";

/** `olmoe tokenizer encode`, as it is typed. */
function pathOf(command: Command): string {
  return command.parent === null ? command.name() : `${pathOf(command.parent)} ${command.name()}`;
}

/** Turns commander's own faults into the library's, with the nearest name and the way to help. */
function usageError(command: Command, { message }: CommanderError): UsageError {
  const [, fault = message, nearest] = /^error: (.*?)(?:\n\(Did you mean (?:one of )?(.*)\?\))?$/s.exec(message) ?? [];
  const suggestion = nearest === undefined ? "" : `did you mean ${nearest}? `;
  return new UsageError(fault, { hint: `${suggestion}"${pathOf(command)} --help" shows the usage` });
}

/** Output, width of help and handling of faults, for a command and all below it. */
function connect(command: Command, session: Session): void {
  command
    .configureOutput({
      writeOut: (text) => session.stdout.write(text),
      writeErr: (text) => session.stderr.write(text),
      // Faults are printed in one place, by runCli.
      outputError: () => undefined,
      getOutHelpWidth: () => session.stdout.columns ?? 100,
      getErrHelpWidth: () => 100,
    })
    .configureHelp({ showGlobalOptions: true })
    .helpOption("-h, --help", "show the usage")
    .exitOverride((error) => {
      throw error.code.startsWith("commander.help") || error.exitCode === 0 ? error : usageError(command, error);
    });
  for (const child of command.commands) connect(child, session);
}

async function createProgram(argv: readonly string[], session: Session): Promise<Command> {
  const program = new Command("olmoe")
    .description("OLMoE in TypeScript: train, run and look inside a mixture-of-experts language model.")
    .version(PACKAGE_VERSION, "-V, --version", "show the version")
    .option("--debug", "show where an error comes from")
    .helpCommand("help [command]", "show the usage of a command")
    .addHelpText("after", "\nExample:\n  $ olmoe quickstart");
  // Two names, because of `olmoe help run`.
  const named = argv.filter((argument) => !argument.startsWith("-")).slice(0, 2);
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = program
      .command(name)
      .summary(summary)
      .description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`);
    if (named.includes(name)) (await load()).register(command, session);
  }
  connect(program, session);
  return program;
}

/** What to do about an error: its own advice, or what holds for its kind. */
function hintOf(error: unknown, argv: readonly string[]): string | undefined {
  if (!(error instanceof OlmoeError)) return REPORT;
  if (error.hint !== undefined || !(error instanceof UsageError)) return error.hint;
  const command = argv.find((argument) => Object.hasOwn(COMMANDS, argument));
  return `"${["olmoe", command, "--help"].filter(Boolean).join(" ")}" shows the usage`;
}

function printError({ stderr }: Session, error: unknown, argv: readonly string[]): void {
  stderr.write(`olmoe: ${error instanceof Error ? error.message : String(error)}\n`);
  const hint = hintOf(error, argv);
  if (hint !== undefined) stderr.write(`hint: ${hint}\n`);
  if (!argv.includes("--debug")) return;
  for (let cause = error; cause instanceof Error; cause = cause.cause) stderr.write(`${cause.stack}\n`);
}

/**
 * Runs one command.
 * @param argv what follows the program's name.
 * @returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 or 143 interrupted.
 */
export async function runCli(argv: readonly string[], session: Session): Promise<number> {
  try {
    const program = await createProgram(argv, session);
    await program.parseAsync(argv, { from: "user" });
    return session.interruptedCode ?? 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (session.interruptedCode !== undefined && error instanceof Error && error.name === "AbortError") {
      session.stderr.write("olmoe: interrupted\n");
      return session.interruptedCode;
    }
    printError(session, error, argv);
    return error instanceof UsageError ? 2 : 1;
  }
}
