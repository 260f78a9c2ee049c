/** Texts as sequences of tokens: files and folders of every kind that `olmoe data build` reads, or a run's held-out text. */
import path from "node:path";
import { recipeNameOf } from "../config/data.ts";
import { type SourceRecipe, sourceSchema } from "../config/dataSources.ts";
import { type HeldOutText, heldOutDocuments } from "../data/heldOut.ts";
import { openHeldOut, openPreparedData } from "../data/open.io.ts";
import { type ListedSource, listSource } from "../data/sources/files.io.ts";
import type { SourceOptions } from "../data/sources/sourceFile.ts";
import { newReadReport, readDocuments } from "../data/sources/sources.io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { Sequence } from "./recordTrace.ts";

export interface SequenceOptions extends SourceOptions {
  readonly tokenizer: Tokenizer;
  /** Longest sequence: longer documents are read in pieces, each from an empty context. */
  readonly context: number;
  /** Most tokens of a source. */
  readonly maxTokens?: number | undefined;
}

/** The pieces of a document that begins with the end-of-text token, as all documents do in training. */
function* piecesOf(
  source: string,
  ids: ArrayLike<number>,
  { tokenizer, context }: SequenceOptions,
): Generator<Sequence> {
  const tokens = Int32Array.of(tokenizer.eosTokenId, ...Array.from(ids));
  for (let start = 0; start < tokens.length; start += context) {
    yield { source, ids: tokens.subarray(start, start + context) };
  }
}

/** Ends with the sequence in which the tokens reach the limit, which is cut there. */
async function* limited(
  sequences: AsyncIterable<Sequence>,
  limit = Number.POSITIVE_INFINITY,
): AsyncGenerator<Sequence> {
  let left = limit;
  for await (const { source, ids } of sequences) {
    yield { source, ids: ids.subarray(0, left) };
    left -= ids.length;
    if (left <= 0) return;
  }
}

/** `name=path` or a path, whose name is the file's without its ending. */
export function sourceOf(input: string): SourceRecipe {
  const [, given, file = input] = /^([a-z0-9][a-z0-9_-]*)=(.+)$/s.exec(input) ?? [];
  const [stem = ""] = path.basename(path.resolve(file)).split(".");
  return sourceSchema.parse({ name: given ?? recipeNameOf(stem, "text"), path: file });
}

/** Sequences, and about how many tokens they have. */
export interface Sequences {
  readonly sequences: AsyncIterable<Sequence>;
  readonly estimate: number;
}

/** What English and code come to with a vocabulary of 50,000; progress is shown by it. */
const BYTES_PER_TOKEN = 4;

/**
 * The documents of sources, one source after the other.
 * @throws DataError for a source that is missing; while sequences are read, for too many broken records.
 */
export async function sourceSequences(sources: readonly SourceRecipe[], options: SequenceOptions): Promise<Sequences> {
  const { maxTokens = Number.POSITIVE_INFINITY, tokenizer } = options;
  const listed = await Promise.all(sources.map((source) => listSource(source, options)));
  const sizes = listed.map(({ files }) => files.reduce((sum, { bytes }) => sum + bytes, 0));
  async function* documentsOf({ files, source }: ListedSource): AsyncGenerator<Sequence> {
    const report = newReadReport();
    for await (const { document } of readDocuments(files, source, { ...options, report })) {
      yield* piecesOf(source.name, await tokenizer.encode(document.text), options);
    }
  }
  async function* sequences(): AsyncGenerator<Sequence> {
    for (const one of listed) yield* limited(documentsOf(one), maxTokens);
  }
  return {
    sequences: sequences(),
    estimate: sizes.reduce((sum, bytes) => sum + Math.min(maxTokens, bytes / BYTES_PER_TOKEN), 0),
  };
}

/** Held-out documents of prepared data, such as a run's folder `data`. @throws as `openPreparedData`. */
export async function heldOutSequences(directory: string, options: SequenceOptions): Promise<Sequences> {
  const { maxTokens = Number.POSITIVE_INFINITY, tokenizer } = options;
  const texts = await openHeldOut(await openPreparedData(directory));
  async function* documentsOf({ source, tokens }: HeldOutText): AsyncGenerator<Sequence> {
    for (const ids of heldOutDocuments(tokens, tokenizer.eosTokenId)) yield* piecesOf(source, ids, options);
  }
  async function* sequences(): AsyncGenerator<Sequence> {
    for (const text of texts) yield* limited(documentsOf(text), maxTokens);
  }
  return {
    sequences: sequences(),
    estimate: texts.reduce((sum, { tokens }) => sum + Math.min(maxTokens, tokens.length), 0),
  };
}
