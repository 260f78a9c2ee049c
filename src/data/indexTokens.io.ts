/** Makes a manifest for token files that were made elsewhere, by `dolma tokens` or for OLMo's trainer. */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { recipeNameOf } from "../config/data.ts";
import { DataError } from "../errors.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import { replaceFile } from "../util/files.io.ts";
import { digestOf, sha256Of, sha256OfFile } from "./build/results.io.ts";
import type { Manifest, ManifestFile } from "./manifest.ts";
import { fileError } from "./readFile.io.ts";
import { documentSpans } from "./spans.io.ts";
import { TokenFile } from "./tokenFile.io.ts";
import { type TokenDType, tokenDType } from "./tokenFile.ts";

export interface IndexOptions {
  readonly directory: string;
  /** A tokenizer.json, or a folder with one; it is copied into the folder. */
  readonly tokenizer: string;
  /** Left out: the narrower type that holds the vocabulary. */
  readonly dtype?: TokenDType | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: { readonly files: number; readonly of: number }) => void) | undefined;
}

/** Tokens that are checked at once. */
const BLOCK_TOKENS = 2 ** 20;

/** A source's name from the first folder of a path: what a recipe can name. */
function sourceOf(file: string): string {
  return recipeNameOf(file.includes("/") ? (file.split("/")[0] as string) : "", "tokens");
}

/**
 * Lists a folder's .npy files in manifest.json; the first folder of a path names its source. Every id is checked.
 * @throws DataError for a folder without token files, an odd length, or an id outside the vocabulary.
 */
export async function indexTokens(options: IndexOptions): Promise<Manifest> {
  const { directory, signal } = options;
  const tokenizer = await loadTokenizer(options.tokenizer);
  const dtype = options.dtype ?? tokenDType(tokenizer.vocabSize);
  const entries = await readdir(directory, { recursive: true }).catch((error) => {
    throw fileError(directory, error);
  });
  const names = entries
    .filter((name) => name.endsWith(".npy"))
    .map((name) => name.replaceAll(path.sep, "/"))
    .sort();
  if (names.length === 0)
    throw new DataError(`${directory}: no .npy file`, { hint: "name the folder of the token files" });
  const files: ManifestFile[] = [];
  for (const [index, name] of names.entries()) {
    const place = path.join(directory, name);
    const tokens = new TokenFile(place, dtype, tokenizer.vocabSize);
    try {
      for (let start = 0; start < tokens.length; start += BLOCK_TOKENS) {
        signal?.throwIfAborted();
        // Reading them is what checks them.
        tokens.subarray(start, Math.min(start + BLOCK_TOKENS, tokens.length));
      }
      let documents = 0;
      for await (const _ of documentSpans(place, tokens, tokenizer.eosTokenId, signal)) documents++;
      const sha256 = await sha256OfFile(place, signal);
      files.push({
        source: sourceOf(name),
        split: "training",
        file: name,
        tokens: tokens.length,
        documents,
        textBytes: 0,
        sha256,
      });
    } catch (error) {
      throw fileError(place, error);
    } finally {
      tokens.close();
    }
    options.onProgress?.({ files: index + 1, of: names.length });
  }
  const json = tokenizer.toJson();
  const { vocabSize, eosTokenId } = tokenizer;
  const counts = { records: 0, bytes: 0, empty: 0, broken: 0, faults: [], keptBytes: 0, filters: [] };
  const manifest: Manifest = {
    version: 2,
    planSha256: digestOf(files),
    recipe: null,
    dtype,
    tokenizer: { file: "tokenizer.json", sha256: sha256Of(json), vocabSize, eosTokenId },
    sources: [...new Set(files.map(({ source }) => source))].map((name) => {
      const own = files.filter(({ source }) => source === name);
      const documents = own.reduce((sum, file) => sum + file.documents, 0);
      return { name, resolved: ".", files: own.length, ...counts, documents, keptDocuments: documents };
    }),
    files,
  };
  await replaceFile(path.join(directory, "tokenizer.json"), (file) => file.writeFile(json));
  await replaceFile(path.join(directory, "manifest.json"), (file) =>
    file.writeFile(`${JSON.stringify(manifest, null, 2)}\n`),
  );
  return manifest;
}
