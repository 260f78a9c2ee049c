/** Opens prepared data: token files in memory, held-out text, or the whole folder again. */
import path from "node:path";
import type { DataFields } from "../config/data.ts";
import { DataError } from "../errors.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import type { HeldOutText } from "./heldOut.ts";
import type { TokenSource } from "./loader.ts";
import { type Manifest, type ManifestFile, parseManifest } from "./manifest.ts";
import type { PreparedData } from "./prepare.io.ts";
import { readWholeFile } from "./readFile.io.ts";
import { readLines } from "./sources/bytes.io.ts";
import { DOLMA_FIELDS, readJsonLine } from "./sources/formats.ts";
import { readTokenFile } from "./tokenFile.io.ts";
import type { TokenArray } from "./tokenFile.ts";

/**
 * Opens a folder that prepareData has filled, without its recipe.
 * @throws DataError or TokenizerError where it is not whole.
 */
export async function openPreparedData(directory: string): Promise<PreparedData> {
  const place = path.join(directory, "manifest.json");
  const manifest = parseManifest(new TextDecoder().decode(await readWholeFile(place)), place);
  return { directory, manifest, tokenizer: await loadTokenizer(directory), reused: true };
}

async function readTokens(directory: string, manifest: Manifest, entry: ManifestFile): Promise<TokenArray> {
  const file = path.join(directory, entry.file);
  const tokens = await readTokenFile(file, manifest.dtype, manifest.tokenizer.vocabSize);
  if (tokens.length === entry.tokens) return tokens;
  throw new DataError(`${file}: ${tokens.length} tokens, the manifest has ${entry.tokens}`, {
    hint: `delete ${directory}, so that the data is prepared again`,
  });
}

/** Training tokens of each source, in the recipe's order and with its weights, for a TokenLoader. */
export async function openTrainingSources(
  { directory, manifest }: PreparedData,
  recipe: DataFields,
): Promise<TokenSource[]> {
  return Promise.all(
    recipe.sources.map(async ({ name, weight }) => {
      const entries = manifest.files.filter(({ source, split }) => source === name && split === "training");
      if (entries.length === 0) throw new DataError(`${directory}: no training tokens of source "${name}"`);
      return { name, weight, files: await Promise.all(entries.map((entry) => readTokens(directory, manifest, entry))) };
    }),
  );
}

async function readHeldOutDocuments(file: string): Promise<HeldOutText["documents"]> {
  const documents: { id: string; text: string }[] = [];
  for await (const line of readLines(file)) {
    const reading = readJsonLine(line, DOLMA_FIELDS);
    if ("fault" in reading) throw new DataError(`${file}:${documents.length + 1}: ${reading.fault}`);
    documents.push({ id: reading.id ?? "", text: reading.text });
  }
  return documents;
}

/** Held-out text and tokens of each source. */
export async function openHeldOut({ directory, manifest }: PreparedData): Promise<HeldOutText[]> {
  const entries = manifest.files.filter(({ split }) => split === "heldout");
  return Promise.all(
    entries.map(async (entry) => {
      const documents = await readHeldOutDocuments(path.join(directory, entry.file.replace(/\.npy$/, ".jsonl")));
      const tokens = await readTokens(directory, manifest, entry);
      return { source: entry.source, tokens, documents, textBytes: entry.textBytes };
    }),
  );
}
