/** Opens prepared data: token files, held-out text, or the whole folder again. */
import { existsSync } from "node:fs";
import path from "node:path";
import type { DataFields } from "../config/data.ts";
import { DataError } from "../errors.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import type { HeldOutText } from "./heldOut.ts";
import { readValues } from "./lines.io.ts";
import type { TokenSource } from "./loader.ts";
import { type Manifest, type ManifestFile, parseManifest } from "./manifest.ts";
import { mixOf } from "./mix.ts";
import type { PreparedData } from "./prepare.io.ts";
import { readWholeFile } from "./readFile.io.ts";
import { TokenFile } from "./tokenFile.io.ts";
import type { TokenArray } from "./tokenFile.ts";

/**
 * Opens a folder that prepareData has filled, without its recipe.
 * @throws DataError or TokenizerError where it is not whole.
 */
export async function openPreparedData(directory: string): Promise<PreparedData> {
  const place = path.join(directory, "manifest.json");
  if (!existsSync(place) && existsSync(path.join(directory, "plan.json"))) {
    throw new DataError(`${directory}: has a plan but no manifest, its build is not finished`, {
      hint: `build it again, or: olmoe data run ${directory} && olmoe data merge ${directory}`,
    });
  }
  const manifest = parseManifest(new TextDecoder().decode(await readWholeFile(place)), place);
  return { directory, manifest, tokenizer: await loadTokenizer(directory), reused: true };
}

/**
 * A token file of the manifest, to be read in places.
 * @throws DataError where it is missing or has another number of tokens.
 */
export function openTokens({ directory, manifest }: Pick<PreparedData, "directory" | "manifest">, entry: ManifestFile) {
  const file = path.join(directory, entry.file);
  const tokens = new TokenFile(file, manifest.dtype, manifest.tokenizer.vocabSize);
  if (tokens.length === entry.tokens) return tokens;
  throw new DataError(`${file}: ${tokens.length} tokens, the manifest has ${entry.tokens}`, {
    hint: `delete ${directory}, so that the data is prepared again`,
  });
}

/** Training tokens that a run goes through, and the files behind them. */
export interface TrainingSources {
  readonly sources: readonly (TokenSource & { readonly files: readonly TokenFile[] })[];
  /** Lets go of the files. */
  close(): void;
}

function trainingFiles({ files }: Manifest, name: string): ManifestFile[] {
  return files.filter(({ source, split }) => source === name && split === "training");
}

/**
 * Training tokens of each source in the recipe's order, in the portions of its stage, for a TokenLoader.
 * @throws DataError for a source without tokens, or a file that the manifest does not fit.
 */
export function openTrainingSources(data: PreparedData, recipe: DataFields): TrainingSources {
  const { directory, manifest } = data;
  const known = recipe.sources.map(({ name, weight }) => {
    const files = trainingFiles(manifest, name);
    return { name, weight, files, tokens: files.reduce((sum, { tokens }) => sum + tokens, 0) };
  });
  const portions = mixOf(known, recipe, recipe.stage);
  const sources = known.flatMap(({ name, files }, index) => {
    const portion = portions[index]!;
    if (portion.weight === 0) return [];
    if (files.length === 0) throw new DataError(`${directory}: no training tokens of source "${name}"`);
    return [{ name, ...portion, files: files.map((entry) => openTokens(data, entry)) }];
  });
  const close = () => {
    for (const { files } of sources) for (const file of files) file.close();
  };
  return { sources, close };
}

/** Tokens of files one after the other. */
function joined(parts: readonly TokenArray[]): TokenArray {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const tokens = new Uint32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let place = 0;
  for (const part of parts) {
    tokens.set(part, place);
    place += part.length;
  }
  return tokens;
}

/** Held-out text and tokens of each source that has some. */
export async function openHeldOut(data: PreparedData): Promise<HeldOutText[]> {
  const { directory, manifest } = data;
  const texts: HeldOutText[] = [];
  for (const source of new Set(manifest.files.map((entry) => entry.source))) {
    const entries = manifest.files.filter((entry) => entry.source === source && entry.split === "heldout");
    if (entries.length === 0) continue;
    const documents: { readonly id: string; readonly text: string }[] = [];
    const parts: TokenArray[] = [];
    for (const entry of entries) {
      const lines = readValues<(typeof documents)[number]>(directory, entry.file.replace(/\.npy$/, ".jsonl.gz"));
      for await (const { id, text } of lines) documents.push({ id, text });
      const tokens = openTokens(data, entry);
      parts.push(tokens.subarray(0, tokens.length));
      tokens.close();
    }
    const textBytes = entries.reduce((sum, entry) => sum + entry.textBytes, 0);
    texts.push({ source, tokens: joined(parts), documents, textBytes });
  }
  return texts;
}
