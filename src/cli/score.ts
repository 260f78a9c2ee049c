/** `olmoe score`: how likely a model finds each line of a text. */
import type { Command } from "commander";
import { readWholeFile } from "../data/readFile.io.ts";
import { readText } from "../data/sources/formats.ts";
import { DataError } from "../errors.ts";
import type { TextScore } from "../infer/model.ts";
import { readInput, type Session, writeJson } from "./common.ts";
import { printable } from "./generationOptions.ts";
import { addInterveneOption, type InterveneFlags, interventionsOf } from "./intervene.ts";
import { addModelOptions, MODEL_ARGUMENT, type ModelFlags, withModel } from "./modelOptions.ts";

interface ScoreFlags extends ModelFlags, InterveneFlags {
  readonly json?: boolean;
}

const HELP = `
Each line is a text of its own. A line of output holds the sum of its tokens' log-probabilities
(natural), the number of tokens, bits per byte, and the text, with tabs between.

Examples:
  $ olmoe score runs/quickstart sentences.txt
  $ echo "The cat sat down." | olmoe score runs/quickstart --json`;

export function register(command: Command, session: Session): void {
  command
    .argument("<model>", MODEL_ARGUMENT)
    .argument("[file]", 'text to read line by line; "-" or nothing: standard input', "-")
    .option("--json", "for programs: each line's tokens with their log-probabilities, too");
  addInterveneOption(command);
  addModelOptions(command)
    .addHelpText("after", HELP)
    .action((model: string, file: string, flags: ScoreFlags) => score(model, file, flags, session));
}

/** A file's text, or that of standard input. @throws DataError where it is missing or not UTF-8. */
export async function readTextFile(file: string, command: string, session: Session): Promise<string> {
  if (file === "-") {
    return readInput(session, `${command}: no text`, "name a file, or give the text on standard input");
  }
  const reading = readText(await readWholeFile(file));
  if ("fault" in reading) throw new DataError(`${file}: ${reading.fault}, expected a text`);
  return reading.text;
}

async function score(path: string, file: string, flags: ScoreFlags, session: Session): Promise<void> {
  const text = await readTextFile(file, "score", session);
  const lines = text === "" ? [] : text.replace(/\r?\n$/, "").split(/\r?\n/);
  await withModel(path, flags, session, async (model) => {
    const interventions = await interventionsOf(flags, model, session);
    const scores = await model.score(lines, { interventions, signal: session.signal });
    if (flags.json) {
      const texts = scores.map((one, index) => describe(one, lines[index] as string));
      writeJson(session, { model: model.info.path, texts });
      return;
    }
    for (const [index, { logprob, ids, bitsPerByte }] of scores.entries()) {
      const line = printable(lines[index] as string);
      session.stdout.write(`${logprob.toFixed(4)}\t${ids.length}\t${bitsPerByte.toFixed(4)}\t${line}\n`);
    }
  });
}

function describe({ ids, logprobs, logprob, bytes, bitsPerByte }: TextScore, text: string) {
  return { text, logprob, tokens: ids.length, bytes, bitsPerByte, ids: [...ids], logprobs: [...logprobs] };
}
