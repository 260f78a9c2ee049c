/** Makes plans: looks up what the sources hold, without reading it. */
import { stat } from "node:fs/promises";
import path from "node:path";
import type { DataRecipe } from "../../config/data.ts";
import { DataError } from "../../errors.ts";
import { loadTokenizer } from "../../tokenizer/io.ts";
import { listSource } from "../sources/files.io.ts";
import type { SourceFile } from "../sources/sourceFile.ts";
import type { Plan, PlannedRead } from "./plan.ts";
import { digestOf, sha256OfFile } from "./results.io.ts";

export interface PlanOptions {
  readonly recipe: DataRecipe;
  /** Relative paths of the recipe start here. */
  readonly baseDirectory: string;
  /** Downloads are kept here. */
  readonly cacheDirectory: string;
  readonly signal?: AbortSignal | undefined;
}

/** Files in tasks of about so many bytes, in order; a file is never divided. */
function grouped(source: number, files: readonly SourceFile[], taskBytes: number): PlannedRead[] {
  const groups: SourceFile[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const file of files) {
    if (bytes + file.bytes > taskBytes) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)?.push(file);
    bytes += file.bytes;
  }
  return groups.map((group) => ({ source, files: group as PlannedRead["files"] }));
}

/** Files that a recipe names beside its sources. */
function inputsOf({ tokenizer, filters }: DataRecipe): string[] {
  const ofFilters = filters.flatMap((filter) => {
    if (filter.kind === "contamination") return filter.files;
    return filter.kind === "module" ? [filter.file] : [];
  });
  return tokenizer.file === undefined ? ofFilters : [tokenizer.file, ...ofFilters];
}

/** Digests of these files, by their names in the recipe. @throws DataError for one that can not be read. */
async function inputDigests(recipe: DataRecipe, baseDirectory: string, signal?: AbortSignal) {
  const digests: Record<string, string> = {};
  for (const name of inputsOf(recipe)) {
    const place = path.resolve(baseDirectory, name);
    // A tokenizer may be named by its folder.
    const isFolder = (await stat(place).catch(() => undefined))?.isDirectory() ?? false;
    digests[name] = await sha256OfFile(isFolder ? path.join(place, "tokenizer.json") : place, signal);
  }
  return digests;
}

/** @throws DataError where one of these files is not what it was when the plan was made. */
export async function checkInputs(plan: Plan, directory: string, signal?: AbortSignal): Promise<void> {
  const digests = await inputDigests(plan.recipe, plan.baseDirectory, signal);
  for (const [name, sha256] of Object.entries(digests)) {
    if (plan.inputs[name] === sha256) continue;
    throw new DataError(`${path.resolve(plan.baseDirectory, name)}: has changed since ${directory} was planned`, {
      hint: "make the plan again with `olmoe data plan`",
    });
  }
}

/**
 * Lists the sources' files and divides them among tasks.
 * @throws DataError for a source that is not there, TokenizerError for a tokenizer file that is none.
 */
export async function makePlan({ recipe, baseDirectory, cacheDirectory, signal }: PlanOptions): Promise<Plan> {
  const reads: PlannedRead[] = [];
  const resolved: string[] = [];
  const pinned: DataRecipe["sources"] = [];
  for (const [index, source] of recipe.sources.entries()) {
    const listed = await listSource(source, { baseDirectory, cacheDirectory, signal });
    resolved.push(listed.resolved);
    pinned.push(listed.source);
    reads.push(...grouped(index, listed.files, recipe.taskBytes));
  }
  const { file } = recipe.tokenizer;
  if (file !== undefined) await loadTokenizer(path.resolve(baseDirectory, file));
  const inputs = await inputDigests(recipe, baseDirectory, signal);
  // Weights and stages only matter to whoever reads the tokens.
  const { stages: _, name: __, sources: ___, ...rest } = recipe;
  const unweighted = pinned.map(({ weight: ____, ...source }) => source);
  const sha256 = digestOf([1, unweighted, rest, resolved, reads, inputs]);
  const whole = { ...recipe, sources: pinned };
  return { version: 1, sha256, recipe: whole, baseDirectory, cacheDirectory, resolved, inputs, reads };
}
