/** `olmoe run`: continues a text with a model. */
import type { Command } from "commander";
import type { Intervention } from "../config/intervention.ts";
import { UsageError } from "../errors.ts";
import { TraceWriter } from "../formats/trace.io.ts";
import type { OlmoeModel } from "../infer/model.io.ts";
import type { TextToken } from "../infer/textAssembler.ts";
import type { TextGeneration, TextResult } from "../infer/textGeneration.ts";
import { formatDuration, formatRate, table } from "../report/text.ts";
import { traceHeader } from "../routing/traceHeader.io.ts";
import { describeBackend } from "./backendOptions.ts";
import { readInput, type Session, wholeNumber, writeJson } from "./common.ts";
import { addGenerationOptions, type GenerationFlags, printable, textOptions } from "./generationOptions.ts";
import { addInterveneOption, type InterveneFlags, intervenedHeader, interventionsOf } from "./intervene.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";

interface RunFlags extends ModelFlags, GenerationFlags, InterveneFlags {
  readonly prompt?: string;
  readonly n: number;
  readonly logprobs?: number;
  readonly trace?: string;
  readonly json?: boolean;
}

const HELP = `
The text goes to standard output, statistics to standard error. Without --prompt, the prompt is
read from standard input, without its last line break.

Examples:
  $ olmoe run runs/quickstart -p "Call me"
  $ olmoe run olmoe-q4_0.gguf --temperature 0 < prompt.txt > continuation.txt
  $ olmoe run runs/quickstart -p "Call me" --intervene changes.json`;

const FINISH = {
  stop: "ended by the model",
  length: "ended by --max-tokens",
  context: "ended by the model's context",
  cancelled: "cancelled",
} as const;

export function register(command: Command, session: Session): void {
  command.argument("<model>", MODEL_ARGUMENT).option("-p, --prompt <text>", "text to continue");
  addGenerationOptions(command, 200)
    .option("--n <count>", "texts to write, with seeds one after another", wholeNumber("--n", 1), 1)
    .option(
      "--logprobs <count>",
      "show each token's log-probability and this many alternatives",
      wholeNumber("--logprobs", 0),
    )
    .option("--trace <file>", "write the experts of every token that is read into a trace")
    .option("--json", "one JSON object at the end instead of streamed text");
  addInterveneOption(command);
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, flags: RunFlags) => run(model, flags, session));
}

async function run(path: string, flags: RunFlags, session: Session): Promise<void> {
  const { n, logprobs, trace, json = false } = flags;
  const routing = trace === undefined ? undefined : { prompt: true };
  const options = { ...textOptions(flags), logprobs, routing, signal: session.signal };
  const prompt = flags.prompt ?? (await readPrompt(session));
  if (options.stop?.includes("")) throw new UsageError('--stop: "", expected a text of at least one character');
  await withModel(path, flags, session, async (model) => {
    const interventions = await interventionsOf(flags, model, session);
    const writer = trace === undefined ? undefined : await traceWriter(model, trace, interventions, session);
    const texts = model.generateTexts(prompt, { ...options, interventions, n });
    const written = writer === undefined ? undefined : writeRoutes(writer, texts);
    // Faults of a text show where the text does.
    written?.catch(() => undefined);
    if (json) {
      const results = await Promise.all(texts.map(({ result }) => result));
      await written;
      writeJson(session, jsonOf(model, prompt, results, logprobs !== undefined));
      return;
    }
    // All at once: the engine computes them together. Their faults show when their turn comes.
    for (const text of texts) text.result.catch(() => undefined);
    for (const [index, text] of texts.entries()) await show(text, { index, n }, model, session);
    await written;
  });
}

async function traceWriter(
  model: OlmoeModel,
  path: string,
  interventions: readonly Intervention[] | undefined,
  { signal }: Session,
): Promise<TraceWriter> {
  const changes = interventions && intervenedHeader(interventions, model.info.config);
  const header = await traceHeader(model, { origin: "generate", signal, ...changes });
  return TraceWriter.create(path, header, { tokenText: (id) => model.tokenizer.entry(id) });
}

/** Writes each text down as a sequence, its prompt and what followed, while it is generated. */
async function writeRoutes(writer: TraceWriter, texts: readonly TextGeneration[]): Promise<void> {
  try {
    for (const [sequence, text] of texts.entries()) {
      for await (const { position, ...rows } of text.routes()) {
        await writer.add({ sequence, source: "text", position }, rows);
      }
    }
  } finally {
    await writer.close();
  }
}

async function readPrompt(session: Session): Promise<string> {
  const text = await readInput(session, "run: no prompt", 'pass one with -p "TEXT", or on standard input');
  return text.replace(/\r?\n$/, "");
}

/** Streams one text; of several, each begins with a line that counts it. */
async function show(
  generation: TextGeneration,
  { index, n }: { readonly index: number; readonly n: number },
  { info }: OlmoeModel,
  { stdout, stderr }: Session,
): Promise<void> {
  if (n > 1) stdout.write(`[${index + 1} of ${n}]\n`);
  try {
    for await (const piece of generation) stdout.write(stdout.isTTY ? printable(piece) : piece);
  } finally {
    stdout.write("\n");
  }
  const result = await generation.result;
  if (result.tokens[0]?.logprob !== undefined) stderr.write(`${logprobTable(result.tokens)}\n`);
  const { firstTokenMs, tokensPerSec, stop, finishReason, promptTokens, newTokens, seed } = result;
  const ended = stop === null ? FINISH[finishReason] : `ended by --stop ${JSON.stringify(stop)}`;
  const parts = [
    `${promptTokens} prompt tokens, ${newTokens} new, ${ended}`,
    ...(firstTokenMs === null ? [] : [`first after ${formatDuration(firstTokenMs / 1000)}`]),
    ...(tokensPerSec === null ? [] : [`then ${formatRate(tokensPerSec, "tokens")}`]),
    `seed ${seed}`,
    describeBackend(info.backend),
  ];
  stderr.write(`${parts.join("; ")}\n`);
}

/** One line for each token: its log-probability, and what else was likely. */
function logprobTable(tokens: readonly TextToken[]): string {
  const shown = (text: string, logprob = Number.NaN) => `${JSON.stringify(text)} ${logprob.toFixed(3)}`;
  return table(
    tokens.map(({ text, logprob = Number.NaN, top = [] }) => [
      JSON.stringify(text),
      logprob.toFixed(3),
      top.map((choice) => shown(choice.text, choice.logprob)).join("  "),
    ]),
    { align: ["left", "right"] },
  );
}

function jsonOf({ info }: OlmoeModel, prompt: string, results: readonly TextResult[], logprobs: boolean) {
  const { name, isa, threads } = info.backend;
  const rounded = (value: number | null) => (value === null ? null : Number(value.toPrecision(4)));
  const texts = results.map(({ tokens, ...result }) => ({
    text: result.text,
    promptTokens: result.promptTokens,
    ids: result.ids,
    finishReason: result.finishReason,
    ...(result.stop === null ? {} : { stop: result.stop }),
    newTokens: result.newTokens,
    firstTokenMs: rounded(result.firstTokenMs),
    tokensPerSec: rounded(result.tokensPerSec),
    seed: result.seed,
    ...(logprobs ? { tokens } : {}),
  }));
  const shared = { model: info.path, prompt, backend: name, isa, threads };
  return texts.length === 1 ? { ...shared, ...texts[0] } : { ...shared, texts };
}
