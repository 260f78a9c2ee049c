/** `olmoe run`: continues a text with a model. */
import type { Command } from "commander";
import type { GeneratedText } from "../infer/generate.ts";
import { generateText } from "../infer/generate.ts";
import { formatDuration, formatRate } from "../report/text.ts";
import { addBackendOptions, type BackendFlags, describeBackend } from "./backendOptions.ts";
import { numberValue, readInput, type Session, wholeNumber, writeJson } from "./common.ts";
import { MODEL_ARGUMENT, openTextModel } from "./modelFolder.ts";

interface RunFlags extends BackendFlags {
  readonly prompt?: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly seed?: number;
  readonly json?: boolean;
}

const HELP = `
The text goes to standard output, statistics to standard error. Without --prompt, the prompt is
read from standard input, without its last line break.

Examples:
  $ olmoe run runs/quickstart -p "Call me"
  $ olmoe run runs/quickstart --temperature 0 < prompt.txt > continuation.txt`;

const FINISH = {
  stop: "ended by the model",
  length: "ended by --max-tokens",
  context: "ended by the model's context",
} as const;

export function register(command: Command, session: Session): void {
  const isTemperature = (value: number) => value >= 0 && value < Infinity;
  const isShare = (value: number) => value > 0 && value <= 1;
  command
    .argument("<model>", MODEL_ARGUMENT)
    .option("-p, --prompt <text>", "text to continue")
    .option("--max-tokens <count>", "most new tokens", wholeNumber("--max-tokens", 0), 200)
    .option(
      "--temperature <number>",
      "0 takes the most likely token, higher is more varied",
      numberValue("--temperature", "a number from 0 on", isTemperature),
      0.8,
    )
    .option("--top-k <count>", "draw from this many most likely tokens", wholeNumber("--top-k", 1))
    .option(
      "--top-p <share>",
      "draw from the most likely tokens that hold this probability",
      numberValue("--top-p", "a number above 0 and at most 1", isShare),
    )
    .option(
      "--seed <number>",
      "the same seed gives the same text (default: another each time)",
      wholeNumber("--seed", 0),
    )
    .option("--json", "one JSON object at the end instead of streamed text");
  addBackendOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, flags: RunFlags) => run(model, flags, session));
}

/** Times of a generation, in milliseconds. */
interface Clock {
  readonly started: number;
  first?: number;
  ended: number;
}

async function run(model: string, flags: RunFlags, session: Session): Promise<void> {
  const { maxTokens, temperature, topK, topP, json = false } = flags;
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 31);
  const prompt = flags.prompt ?? (await readPrompt(session));
  const { folder, backend, decoder, tokenizer } = await openTextModel(model, flags, session);
  const generation = generateText(backend, decoder, tokenizer, prompt, {
    maxTokens,
    sampling: { temperature, topK, topP },
    seed,
    signal: session.signal,
  });
  const clock: Clock = { started: performance.now(), ended: 0 };
  let text = "";
  const write = (piece: string) => {
    text += piece;
    if (!json) session.stdout.write(session.stdout.isTTY ? printable(piece) : piece);
  };
  let result: GeneratedText;
  try {
    result = await follow(generation, clock, write);
  } finally {
    if (!json) session.stdout.write("\n");
  }
  const statistics = statisticsOf(result, clock);
  if (json) {
    const { name, isa, threads } = backend;
    const backendFacts = { backend: name, isa, threads };
    writeJson(session, { model: folder, prompt, text, ...result, ...statistics, seed, ...backendFacts });
    return;
  }
  const { firstTokenMs, tokensPerSec } = statistics;
  const parts = [
    `${result.promptTokens} prompt tokens, ${result.ids.length} new, ${FINISH[result.finishReason]}`,
    ...(firstTokenMs === null ? [] : [`first after ${formatDuration(firstTokenMs / 1000)}`]),
    ...(tokensPerSec === null ? [] : [`then ${formatRate(tokensPerSec, "tokens")}`]),
    `seed ${seed}`,
    describeBackend(backend),
  ];
  session.stderr.write(`${parts.join("; ")}\n`);
}

async function readPrompt(session: Session): Promise<string> {
  const text = await readInput(session, "run: no prompt", 'pass one with -p "TEXT", or on standard input');
  return text.replace(/\r?\n$/, "");
}

/** Hands pieces over as they come. */
async function follow(
  generation: AsyncGenerator<string, GeneratedText>,
  clock: Clock,
  write: (piece: string) => void,
): Promise<GeneratedText> {
  for (;;) {
    const next = await generation.next();
    clock.ended = performance.now();
    if (next.done) return next.value;
    clock.first ??= clock.ended;
    write(next.value);
  }
}

/** The rate is that of decoding: the tokens after the first, and their time. Null where there were none. */
function statisticsOf({ ids }: GeneratedText, { started, first, ended }: Clock) {
  const rounded = (value: number) => Number(value.toPrecision(4));
  return {
    newTokens: ids.length,
    firstTokenMs: first === undefined ? null : rounded(first - started),
    tokensPerSec: first === undefined || ids.length < 2 ? null : rounded(((ids.length - 1) * 1000) / (ended - first)),
  };
}

/** A model may write control characters, which would move a terminal's cursor or change its colours. */
function printable(text: string): string {
  return text.replace(/[^\P{Cc}\n\t]/gu, "");
}
