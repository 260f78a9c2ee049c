/** Reads recipes of data, and puts them where a training recipe names one. */
import { readFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import { ConfigError } from "../errors.ts";
import { type DataRecipe, parseDataRecipe } from "./data.ts";
import { applyOverride, readMapping } from "./yaml.io.ts";

type Mapping = Record<string, unknown>;

/**
 * Reads and checks a recipe of data.
 * @param overrides `key.path=value`, applied in order before the check.
 * @throws ConfigError for a file that is missing or not YAML, or listing every fault of its content.
 */
export async function readDataRecipe(file: string, overrides: readonly string[] = []): Promise<DataRecipe> {
  const value = await readMapping(file);
  for (const text of overrides) applyOverride(value, text);
  return parseDataRecipe(value, file);
}

function isMapping(value: unknown): value is Mapping {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The manifest of a folder with data, as far as a training recipe needs it. */
async function readManifest(folder: string, place: string): Promise<{ recipe: unknown; sources: string[] }> {
  try {
    const { recipe, files } = JSON.parse(await readFile(join(folder, "manifest.json"), "utf8"));
    const names = (files as { readonly source: string }[]).map(({ source }) => source);
    return { recipe, sources: [...new Set(names)] };
  } catch (cause) {
    throw new ConfigError(`${place}: data.folder: ${folder} has no manifest that can be read`, {
      hint: "make the folder with `olmoe data build`, or list token files with `olmoe data index`",
      cause,
    });
  }
}

/**
 * Replaces `data: {recipe: FILE}` by what the file says, changed by the fields beside it, and `data: {folder: DIR}` by the
 * recipe that the folder was made from. Anything else is left as it is.
 * @param file the training recipe, which relative paths start at.
 * @throws ConfigError for a file or folder that is not there.
 */
export async function inlineData(value: Mapping, file: string): Promise<Mapping> {
  if (!isMapping(value.data)) return value;
  const { recipe, folder, ...changes } = value.data;
  const base = dirname(resolve(file));
  if (typeof recipe === "string" && typeof folder === "string") {
    throw new ConfigError(`${file}: data: has both recipe and folder, expected one of them`);
  }
  if (typeof recipe === "string") {
    const place = resolve(base, recipe);
    const { name: _, tokenizer, ...fields } = await readMapping(place);
    const baseDirectory = relative(base, dirname(place)) || ".";
    return { ...value, tokenizer: value.tokenizer ?? tokenizer, data: { ...fields, baseDirectory, ...changes } };
  }
  if (typeof folder !== "string") return value;
  if (value.tokenizer !== undefined) {
    throw new ConfigError(`${file}: tokenizer: comes with data.folder`, { hint: "leave it out" });
  }
  const place = resolve(base, folder);
  const manifest = await readManifest(place, file);
  const tokenizer = { file: join(folder, "tokenizer.json") };
  const {
    name: _,
    tokenizer: __,
    ...fields
  } = isMapping(manifest.recipe) ? manifest.recipe : { sources: manifest.sources.map((name) => ({ name, path: "." })) };
  return { ...value, tokenizer, data: { ...fields, folder, ...changes } };
}
