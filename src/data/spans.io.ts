/** Which documents a token file holds: from the table beside it, or from its end-of-text tokens. */
import { existsSync } from "node:fs";
import { DataError } from "../errors.ts";
import { readLines } from "./sources/bytes.io.ts";
import type { TokenFile } from "./tokenFile.io.ts";

/** A document of a token file. */
export interface DocumentSpan {
  /** Place of its first token. */
  readonly start: number;
  /** Exclusive; its end-of-text token is the last. */
  readonly end: number;
  /** Absent where the file has no table. */
  readonly from?: { readonly id: string; readonly path: string; readonly line: number };
}

const FIELD = `("(?:[^"]|"")*"|[^",]*)`;
const ROW = new RegExp(`^(\\d+),(\\d+),${FIELD},${FIELD},(\\d+)$`, "s");
const unquoted = (field: string) => (field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field);

/** Rows of the table; an id may hold line ends, inside of its quotes. */
async function* tableSpans(file: string, signal?: AbortSignal): AsyncGenerator<DocumentSpan> {
  let open = "";
  let line = 0;
  for await (const bytes of readLines(file, file, signal)) {
    line++;
    open += (open === "" ? "" : "\n") + Buffer.from(bytes).toString();
    if ((open.split('"').length - 1) % 2 === 1) continue;
    const [, start, end, id, path, place] = ROW.exec(open.replace(/\r$/, "")) ?? [];
    if (id === undefined || path === undefined) {
      throw new DataError(`${file}:${line}: not a row of start, end, id, file and line`, {
        hint: "it is no table of documents, or it is damaged; without it documents are found by their end-of-text tokens",
      });
    }
    yield {
      start: Number(start),
      end: Number(end),
      from: { id: unquoted(id), path: unquoted(path), line: Number(place) },
    };
    open = "";
  }
}

/** Tokens that are looked through at once. */
const BLOCK_TOKENS = 2 ** 16;

function* eosSpans(tokens: TokenFile, eosTokenId: number): Generator<DocumentSpan> {
  let start = 0;
  for (let place = 0; place < tokens.length; place += BLOCK_TOKENS) {
    const block = tokens.subarray(place, Math.min(place + BLOCK_TOKENS, tokens.length));
    for (let at = block.indexOf(eosTokenId); at !== -1; at = block.indexOf(eosTokenId, at + 1)) {
      yield { start, end: place + at + 1 };
      start = place + at + 1;
    }
  }
  if (start < tokens.length) yield { start, end: tokens.length };
}

/**
 * Documents of a token file, in order.
 * @param file the .npy file, beside which the table is looked for.
 * @throws DataError for a damaged table.
 */
export async function* documentSpans(
  file: string,
  tokens: TokenFile,
  eosTokenId: number,
  signal?: AbortSignal,
): AsyncGenerator<DocumentSpan> {
  const spans = file.replace(/\.npy$/, ".csv.gz");
  if (existsSync(spans)) yield* tableSpans(spans, signal);
  else yield* eosSpans(tokens, eosTokenId);
}
