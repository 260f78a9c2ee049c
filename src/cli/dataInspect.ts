/** `olmoe data inspect`: documents and sequences of token files as people can read them. */
import { join, resolve } from "node:path";
import { styleText } from "node:util";
import { openPreparedData, openTokens } from "../data/open.io.ts";
import type { PreparedData } from "../data/prepare.io.ts";
import { findRepetitions, OLMOE_REPETITION } from "../data/repetition.ts";
import { type DocumentSpan, documentSpans } from "../data/spans.io.ts";
import { UsageError } from "../errors.ts";
import { formatCount } from "../report/text.ts";
import { type Session, writeJson } from "./common.ts";

export interface InspectFlags {
  readonly source?: string;
  readonly heldout?: boolean;
  /** Number of the first document or sequence, from 0. */
  readonly from: number;
  readonly count: number;
  /** Tokens of a sequence; absent: documents are shown. */
  readonly length?: number;
  /** Tokens shown of each. */
  readonly tokens: number;
  readonly json?: boolean;
}

/** A document, or one sequence as the trainer takes it. */
interface Piece {
  readonly file: string;
  readonly start: number;
  readonly end: number;
  readonly from?: DocumentSpan["from"] | undefined;
  readonly ids: ArrayLike<number>;
}

/** The pieces that are asked for, over all files of the source. */
async function* pieces(data: PreparedData, flags: InspectFlags, signal: AbortSignal): AsyncGenerator<Piece> {
  const { directory, manifest } = data;
  const split = flags.heldout ? "heldout" : "training";
  const names = [...new Set(manifest.files.map(({ source }) => source))];
  const source = flags.source ?? names[0];
  if (source === undefined || !names.includes(source)) {
    throw new UsageError(`--source: "${source}", ${directory} has ${names.join(", ")}`);
  }
  let number = 0;
  const last = flags.from + flags.count;
  for (const entry of manifest.files.filter((file) => file.source === source && file.split === split)) {
    const tokens = openTokens(data, entry);
    try {
      const spans =
        flags.length === undefined
          ? documentSpans(join(directory, entry.file), tokens, manifest.tokenizer.eosTokenId, signal)
          : chunkSpans(tokens.length, flags.length);
      for await (const { start, end, from } of spans) {
        if (number >= last) return;
        if (number++ < flags.from) continue;
        yield { file: entry.file, start, end, from, ids: tokens.subarray(start, end) };
      }
    } finally {
      tokens.close();
    }
  }
}

function* chunkSpans(tokens: number, length: number): Generator<DocumentSpan> {
  for (let start = 0; start + length <= tokens; start += length) yield { start, end: start + length };
}

/** Control characters would move the cursor or colour the rest. */
function visible(text: string): string {
  return text.replace(/\n/g, "\u23ce\n").replace(/[\p{Cc}\p{Cf}]/gu, (character) => {
    return character === "\n" || character === "\t" ? character : "\u00b7";
  });
}

/** Tokens in two colours by turns, or with marks between them where there are no colours. */
function paint(data: PreparedData, ids: ArrayLike<number>, colours: boolean): string {
  const { eosTokenId } = data.manifest.tokenizer;
  return Array.from(ids, (id, index) => {
    const text = visible(data.tokenizer.tokenText(id));
    if (!colours) return `${text}|`;
    if (id === eosTokenId) return `${styleText(["inverse"], text)}\n`;
    return styleText(index % 2 === 0 ? ["black", "bgCyanBright"] : ["black", "bgYellowBright"], text);
  }).join("");
}

/** What the trainer's instance filter says of a sequence. */
function repetitionOf(ids: ArrayLike<number>): string {
  const worst = findRepetitions(ids).toSorted((one, other) => other.times - one.times)[0];
  if (worst === undefined) return "";
  const masked = worst.times >= OLMOE_REPETITION.maxCount ? "masked in training: " : "";
  return `${masked}${worst.period} tokens ${worst.times} times in a row at ${worst.start}`;
}

export async function inspect(folder: string, flags: InspectFlags, session: Session): Promise<void> {
  const { stdout, signal } = session;
  const data = await openPreparedData(resolve(folder));
  const { eosTokenId } = data.manifest.tokenizer;
  const shown: unknown[] = [];
  let number = flags.from;
  for await (const { file, start, end, from, ids } of pieces(data, flags, signal)) {
    const all = Array.from(ids);
    const borders = all.filter((id) => id === eosTokenId).length;
    const repetition = repetitionOf(all);
    if (flags.json) {
      shown.push({
        number,
        file,
        start,
        end,
        ...from,
        repetition,
        ids: all,
        tokens: all.map((id) => data.tokenizer.tokenText(id)),
      });
    } else {
      const what = flags.length === undefined ? "document" : "sequence";
      const place = from === undefined ? "" : `  ${from.id}  (${from.path}:${from.line})`;
      stdout.write(`${what} ${number}: ${formatCount(all.length)} tokens, ${file} ${start}..${end}${place}\n`);
      if (flags.length !== undefined) stdout.write(`  ${borders} document borders\n`);
      if (repetition !== "") stdout.write(`  ${repetition}\n`);
      stdout.write(`${paint(data, all.slice(0, flags.tokens), stdout.isTTY === true)}\n`);
      if (all.length > flags.tokens) stdout.write(`  ... ${all.length - flags.tokens} more, --tokens shows them\n`);
      stdout.write("\n");
    }
    number++;
  }
  if (flags.json) writeJson(session, shown);
  else if (number === flags.from) stdout.write(`nothing from number ${flags.from} on\n`);
}
