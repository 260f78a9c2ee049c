/** Makes plans: looks up what the sources hold, without reading it. */
import path from "node:path";
import type { DataRecipe } from "../../config/data.ts";
import { loadTokenizer } from "../../tokenizer/io.ts";
import { listSource } from "../sources/files.io.ts";
import type { SourceFile } from "../sources/sourceFile.ts";
import type { Plan, PlannedRead } from "./plan.ts";
import { digestOf, sha256Of } from "./results.io.ts";

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
  const tokenizer = file === undefined ? null : sha256Of((await loadTokenizer(path.resolve(baseDirectory, file))).toJson());
  // Weights and stages only matter to whoever reads the tokens.
  const { stages: _, name: __, sources: ___, ...rest } = recipe;
  const unweighted = pinned.map(({ weight: ____, ...source }) => source);
  const sha256 = digestOf([1, unweighted, rest, resolved, reads, tokenizer]);
  return { version: 1, sha256, recipe: { ...recipe, sources: pinned }, baseDirectory, cacheDirectory, resolved, reads };
}
