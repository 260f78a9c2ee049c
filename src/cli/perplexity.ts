/** `olmoe perplexity`: how well a model predicts a file, in strided windows. */
import type { Command } from "commander";
import type { OlmoeModel } from "../infer/model.io.ts";
import type { Perplexity, WindowOptions } from "../infer/perplexity.ts";
import { formatBytes, formatCount, formatDuration, formatRate, table } from "../report/text.ts";
import { describeBackend } from "./backendOptions.ts";
import { type Session, wholeNumber, writeJson } from "./common.ts";
import { addInterveneOption, type InterveneFlags, interventionsOf } from "./intervene.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";
import { ProgressLine } from "./progressLine.ts";
import { readTextFile } from "./score.ts";

interface PerplexityFlags extends ModelFlags, InterveneFlags {
  readonly stride?: number;
  readonly json?: boolean;
}

const HELP = `
The file is one text, after one end-of-text token that is not scored. Windows of --context tokens
begin --stride tokens apart, and of each only the tokens that no earlier window has are scored: each
token is scored once, and but for the first window with at least context - stride tokens before it.

Example:
  $ olmoe perplexity runs/quickstart README.md --context 256 --stride 128`;

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", MODEL_ARGUMENT)
    .argument("<file>", 'text to read; "-" for standard input')
    .option("--stride <tokens>", "tokens between windows (default: half of --context)", wholeNumber("--stride", 1))
    .option("--json", "for programs");
  addInterveneOption(command);
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, file: string, flags: PerplexityFlags) => perplexity(model, file, flags, session));
}

async function perplexity(path: string, file: string, flags: PerplexityFlags, session: Session): Promise<void> {
  const text = await readTextFile(file, "perplexity", session);
  await withModel(path, flags, session, async (model) => {
    const { context, backend } = model.info;
    const stride = flags.stride ?? Math.max(1, context >> 1);
    const interventions = await interventionsOf(flags, model, session);
    const started = performance.now();
    const result = await measure(model, text, { stride, interventions }, session);
    const seconds = (performance.now() - started) / 1000;
    if (flags.json) {
      writeJson(session, { model: model.info.path, file, context, stride, ...result });
      return;
    }
    session.stdout.write(`${table(rows(result))}\n`);
    const rate = formatRate(result.tokens / seconds, "tokens");
    const windows = `windows of ${context} tokens, ${stride} apart`;
    session.stderr.write(`${windows}; ${formatDuration(seconds)}, ${rate}; ${describeBackend(backend)}\n`);
  });
}

/** Measures with a live line on standard error. */
async function measure(
  model: OlmoeModel,
  text: string,
  options: Pick<WindowOptions, "stride" | "interventions">,
  session: Session,
): Promise<Perplexity> {
  const progress = new ProgressLine(session);
  try {
    return await model.perplexity(text, {
      ...options,
      signal: session.signal,
      onProgress: ({ tokens, logprob, of }) => {
        const soFar = Math.exp(-logprob / tokens).toFixed(3);
        progress.show(tokens / of, `${formatCount(tokens)} tokens, perplexity ${soFar}`);
      },
    });
  } finally {
    progress.stop();
  }
}

function rows(result: Perplexity): string[][] {
  const { tokens, words, bytes, perToken, perWord, perByte, bitsPerByte } = result;
  return [
    ["perplexity", perToken.toFixed(4), `per token, of ${tokens.toLocaleString("en-US")}`],
    ["", perWord.toPrecision(6), `per word, of ${words.toLocaleString("en-US")}`],
    ["", perByte.toFixed(4), `per byte, of ${formatBytes(bytes)}`],
    ["bits per byte", bitsPerByte.toFixed(4)],
  ];
}
