/**
 * From a recipe's sources to token files: read, split, train or load the tokenizer, encode. The folder holds
 *
 *     manifest.json                       written last
 *     tokenizer.json
 *     training/SOURCE.npy, .csv.gz        tokens and document spans
 *     heldout/SOURCE.npy, .csv.gz, .jsonl the same, and the text
 *
 * The text of all sources is in memory while this runs.
 */
import { createHash } from "node:crypto";
import { mkdir, rename, rm, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import type { DataFields, TokenizerRecipe } from "../config/data.ts";
import type { SourceRecipe } from "../config/dataSources.ts";
import { DataError } from "../errors.ts";
import { loadTokenizer, trainTokenizer } from "../tokenizer/io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { createRandom, shuffledOrder } from "../util/random.ts";
import { type Document, utf8Bytes } from "./document.ts";
import { type Manifest, type ManifestFile, parseManifest } from "./manifest.ts";
import { fileError, readWholeFile } from "./readFile.io.ts";
import { listSource } from "./sources/files.io.ts";
import { newSourceReport, readSource, type SourceReport } from "./sources/sources.io.ts";
import { type Split, splitHeldOut } from "./split.ts";
import { writeTokenFile } from "./tokenFile.io.ts";
import { tokenBytesOf, tokenDType } from "./tokenFile.ts";

export interface PrepareProgress {
  readonly stage: "read" | "tokenizer" | "encode";
  /** Absent while the tokenizer is trained. */
  readonly source?: string;
  /** UTF-8 bytes and documents of this stage and source so far. */
  readonly bytes: number;
  readonly documents: number;
}

export interface PrepareOptions {
  readonly recipe: DataFields;
  readonly tokenizer: TokenizerRecipe;
  /** Relative paths of the recipe start here. */
  readonly baseDirectory: string;
  /** Where the prepared data goes. */
  readonly directory: string;
  readonly cacheDirectory: string;
  readonly seed: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: PrepareProgress) => void;
}

/** Prepared data on disk; open.io.ts reads it. */
export interface PreparedData {
  readonly directory: string;
  readonly manifest: Manifest;
  readonly tokenizer: Tokenizer;
  /** True where the files were there already. */
  readonly reused: boolean;
}

interface ReadSource {
  readonly source: SourceRecipe;
  readonly report: SourceReport;
  readonly split: Split;
}

function sha256Of(content: string | Uint8Array): string {
  return createHash("sha256").update(content).digest("hex");
}

/** Sizes and times, or digests, of a source's files stand for their content. */
async function localFiles(source: SourceRecipe, options: PrepareOptions): Promise<unknown> {
  if (source.npm !== undefined) return null;
  const { baseDirectory, cacheDirectory } = options;
  return (await listSource(source, { baseDirectory, cacheDirectory })).files;
}

/** Digest of everything the files depend on; weights only matter to the loader. */
async function recipeSha256(options: PrepareOptions): Promise<string> {
  const { recipe, tokenizer, seed, baseDirectory } = options;
  const sources = recipe.sources.map(({ weight: _, ...source }) => source);
  const file =
    tokenizer.file === undefined ? null : (await loadTokenizer(path.resolve(baseDirectory, tokenizer.file))).toJson();
  const local = await Promise.all(recipe.sources.map((source) => localFiles(source, options)));
  return sha256Of(
    JSON.stringify({ version: 1, sources, heldOutBytes: recipe.heldOutBytes, tokenizer, file, seed, local }),
  );
}

/** Prepared data of this digest, or undefined where there is none or a file is missing or of another size. */
async function reusable(directory: string, digest: string): Promise<PreparedData | undefined> {
  const place = path.join(directory, "manifest.json");
  try {
    const manifest = parseManifest(new TextDecoder().decode(await readWholeFile(place)), place);
    if (manifest.recipeSha256 !== digest) return undefined;
    const width = tokenBytesOf(manifest.dtype);
    for (const { file, tokens } of manifest.files) {
      if ((await stat(path.join(directory, file))).size !== tokens * width) return undefined;
    }
    const tokenizer = await loadTokenizer(directory);
    if (sha256Of(tokenizer.toJson()) !== manifest.tokenizer.sha256) return undefined;
    return { directory, manifest, tokenizer, reused: true };
  } catch {
    // Whatever is wrong with the old files, making them again puts it right.
    return undefined;
  }
}

async function readAndSplit(source: SourceRecipe, options: PrepareOptions): Promise<ReadSource> {
  const report = newSourceReport();
  const documents: Document[] = [];
  const onProgress = ({ bytes, documents: count }: Readonly<SourceReport>) =>
    options.onProgress?.({ stage: "read", source: source.name, bytes, documents: count });
  for await (const document of readSource(source, { ...options, onProgress, report })) documents.push(document);
  const { heldOutBytes } = options.recipe;
  return { source, report, split: splitHeldOut(documents, { source: source.name, heldOutBytes, seed: options.seed }) };
}

/** Training documents of each source in a random order, up to `trainBytes` of each. */
function* tokenizerTexts(sources: readonly ReadSource[], options: PrepareOptions): Generator<string> {
  let total = 0;
  let documents = 0;
  for (const { source, split } of sources) {
    let bytes = 0;
    for (const index of shuffledOrder(split.training.length, createRandom(options.seed, `tokenizer/${source.name}`))) {
      const { text } = split.training[index] as Document;
      if (bytes >= options.tokenizer.trainBytes) break;
      bytes += utf8Bytes(text);
      documents++;
      yield text;
    }
    total += bytes;
    options.onProgress?.({ stage: "tokenizer", bytes: total, documents });
  }
}

async function makeTokenizer(sources: readonly ReadSource[], options: PrepareOptions): Promise<Tokenizer> {
  const { file, vocabSize } = options.tokenizer;
  if (file !== undefined) return loadTokenizer(path.resolve(options.baseDirectory, file));
  if (vocabSize === undefined) throw new DataError("prepareData: tokenizer has neither file nor vocabSize");
  return trainTokenizer(tokenizerTexts(sources, options), {
    vocabSize,
    ...(options.signal === undefined ? {} : { signal: options.signal }),
  });
}

/** Both token files of a source, and the held-out text. */
async function writeSource(read: ReadSource, tokenizer: Tokenizer, options: PrepareOptions): Promise<ManifestFile[]> {
  const { name } = read.source;
  const files: ManifestFile[] = [];
  for (const [split, documents] of [
    ["training", read.split.training],
    ["heldout", read.split.heldOut],
  ] as const) {
    const written = await writeTokenFile(path.join(options.directory, split, name), documents, {
      tokenizer,
      dtype: tokenDType(tokenizer.vocabSize),
      signal: options.signal,
      onProgress: (progress) => options.onProgress?.({ stage: "encode", source: name, ...progress }),
    });
    files.push({ source: name, split, file: `${split}/${name}.npy`, ...written });
  }
  const lines = read.split.heldOut.map(({ id, text, source }) => `${JSON.stringify({ id, text, source })}\n`);
  await writeFile(path.join(options.directory, "heldout", `${name}.jsonl`), lines.join(""));
  return files;
}

/**
 * Prepares a recipe's data in `directory`, or finds it there: files of the same recipe, seed and local text are used
 * again. A run that is killed leaves no manifest and starts over; fetched npm packages stay. The same recipe and seed give
 * the same bytes.
 *
 * @throws DataError, TokenizerError or ResourceError; see readSource, splitHeldOut and trainTokenizer.
 */
export async function prepareData(options: PrepareOptions): Promise<PreparedData> {
  const { directory } = options;
  const digest = await recipeSha256(options);
  const found = await reusable(directory, digest);
  if (found !== undefined) return found;
  try {
    await rm(path.join(directory, "manifest.json"), { force: true });
    for (const split of ["training", "heldout"]) await mkdir(path.join(directory, split), { recursive: true });
    const sources: ReadSource[] = [];
    for (const source of options.recipe.sources) sources.push(await readAndSplit(source, options));
    const tokenizer = await makeTokenizer(sources, options);
    await writeFile(path.join(directory, "tokenizer.json"), tokenizer.toJson());
    const files: ManifestFile[] = [];
    for (const source of sources) files.push(...(await writeSource(source, tokenizer, options)));
    const { vocabSize, eosTokenId } = tokenizer;
    const manifest: Manifest = {
      version: 1,
      recipeSha256: digest,
      dtype: tokenDType(vocabSize),
      tokenizer: { file: "tokenizer.json", sha256: sha256Of(tokenizer.toJson()), vocabSize, eosTokenId },
      sources: sources.map(({ source, report }) => ({ name: source.name, ...report })),
      files,
    };
    const place = path.join(directory, "manifest.json");
    await writeFile(`${place}.partial`, `${JSON.stringify(manifest, null, 2)}\n`);
    await rename(`${place}.partial`, place);
    return { directory, manifest, tokenizer, reused: false };
  } catch (error) {
    throw fileError(directory, error);
  }
}
