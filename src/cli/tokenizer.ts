/** `olmoe tokenizer`: trains a byte-level BPE, encodes and decodes. */
import path from "node:path";
import type { Command } from "commander";
import { cutText, utf8Bytes } from "../data/document.ts";
import { DOLMA_FIELDS, formatOf, isByRow, type Reading } from "../data/sources/formats.ts";
import { readRecords } from "../data/sources/records.io.ts";
import { DataError, UsageError } from "../errors.ts";
import { formatBytes } from "../report/text.ts";
import { loadTokenizer, trainTokenizer } from "../tokenizer/io.ts";
import { checkWritable } from "../train/checkpoint.io.ts";
import { replaceFile } from "../util/files.io.ts";
import { readInput, type Session, wholeNumber, writeJson } from "./common.ts";

const TOKENIZER_ARGUMENT = "tokenizer.json, or a folder that holds one";

const TRAIN_HELP = `
A file is one document of text; JSONL (also .gz, .zst, .bz2), CSV and Parquet have a document in
the field "text" of each row.

Example:
  $ olmoe tokenizer train docs/*.md --vocab-size 2048 --out tokenizer.json`;

const ENCODE_HELP = `
The ids go to standard output, the tokens to standard error.

Example:
  $ olmoe tokenizer encode runs/quickstart/data "Call me Ishmael."`;

const DECODE_HELP = `
Example:
  $ olmoe tokenizer decode runs/quickstart/data 1250 316`;

export function register(command: Command, session: Session): void {
  command
    .command("train <files...>")
    .description("Train a tokenizer on text.")
    .requiredOption(
      "--vocab-size <count>",
      "entries, of which 258 are bytes and special",
      wholeNumber("--vocab-size", 258),
    )
    .requiredOption("--out <file>", "tokenizer.json to write")
    .addHelpText("after", TRAIN_HELP)
    .action((files: string[], flags: TrainFlags) => train(files, flags, session));
  command
    .command("encode")
    .argument("<tokenizer>", TOKENIZER_ARGUMENT)
    .argument("[text]", "text to encode; default: standard input")
    .description("Show the tokens of a text.")
    .option("--json", "for programs: ids and tokens")
    .addHelpText("after", ENCODE_HELP)
    .action((file: string, text: string | undefined, flags: { readonly json?: boolean }) =>
      encode(file, text, flags.json ?? false, session),
    );
  command
    .command("decode")
    .argument("<tokenizer>", TOKENIZER_ARGUMENT)
    .argument("<ids...>", "token ids")
    .description("Show the text of ids.")
    .addHelpText("after", DECODE_HELP)
    .action((file: string, ids: string[]) => decode(file, ids, session));
  command.addHelpText("after", `\nExample:${ENCODE_HELP.split("Example:")[1]}`);
}

interface TrainFlags {
  readonly vocabSize: number;
  readonly out: string;
}

/** Longer documents are cut, which bounds the memory that splitting into words takes. */
const PIECE_CHARACTERS = 2 ** 20;

function pieces(place: string, reading: Reading): string[] {
  if ("fault" in reading) throw new DataError(`${place}: ${reading.fault}`);
  return reading.text.length <= PIECE_CHARACTERS ? [reading.text] : cutText(reading.text, PIECE_CHARACTERS);
}

async function readTexts(file: string): Promise<string[]> {
  const texts: string[] = [];
  const format = formatOf(file, "auto");
  for await (const batch of readRecords(file, { ...DOLMA_FIELDS, name: file, format })) {
    for (const { line, reading } of batch) texts.push(...pieces(isByRow(format) ? `${file}:${line}` : file, reading));
  }
  return texts;
}

async function train(files: readonly string[], { vocabSize, out }: TrainFlags, { stdout }: Session): Promise<void> {
  await checkWritable(path.dirname(out));
  const texts: string[] = [];
  for (const file of files) texts.push(...(await readTexts(file)));
  // Training does not let signals through: Ctrl-C is left to the system, and nothing is written before the end.
  const tokenizer = trainTokenizer(texts, { vocabSize });
  await replaceFile(out, (file) => file.writeFile(tokenizer.toJson()));
  const bytes = texts.reduce((sum, text) => sum + utf8Bytes(text), 0);
  stdout.write(`wrote ${out}: ${tokenizer.vocabSize} entries from ${formatBytes(bytes)} of text\n`);
}

async function encode(file: string, argument: string | undefined, json: boolean, session: Session): Promise<void> {
  const text =
    argument ?? (await readInput(session, "tokenizer encode: no text", "give it as an argument or on standard input"));
  const tokenizer = await loadTokenizer(file);
  const ids = [...(await tokenizer.encode(text))];
  const tokens = ids.map((id) => tokenizer.tokenText(id));
  if (json) {
    writeJson(session, { ids, tokens });
    return;
  }
  session.stdout.write(`${ids.join(" ")}\n`);
  session.stderr.write(`${tokens.map((token) => JSON.stringify(token)).join(" ")}\n`);
}

async function decode(file: string, ids: readonly string[], { stdout }: Session): Promise<void> {
  const values = ids.map(wholeNumber("tokenizer decode", 0));
  const tokenizer = await loadTokenizer(file);
  const outside = values.find((id) => id >= tokenizer.vocabSize);
  if (outside !== undefined) {
    throw new UsageError(`tokenizer decode: id ${outside}, the tokenizer has ids 0..${tokenizer.vocabSize - 1}`);
  }
  stdout.write(`${tokenizer.decode(values)}\n`);
}
