/**
 * From a recipe to token files in one call: plan, run, merge. The folder holds
 *
 *     plan.json                            the tasks
 *     documents/, attributes/              the text in Dolma's form, and what filters found in it
 *     work/                                what tasks hand on to each other, and their results
 *     tokenizer.json
 *     training/SOURCE/TASK-SHARD.npy, .csv.gz   tokens and document spans
 *     heldout/SOURCE/TASK.npy, .csv.gz, .jsonl.gz   the same, and the text
 *     manifest.json                        written last
 */
import { mkdir, rm, stat } from "node:fs/promises";
import path from "node:path";
import type { DataRecipe } from "../config/data.ts";
import { loadTokenizer } from "../tokenizer/io.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { replaceFile } from "../util/files.io.ts";
import { mergePlan } from "./build/merge.io.ts";
import { makePlan } from "./build/plan.io.ts";
import type { Plan } from "./build/plan.ts";
import { sha256Of } from "./build/results.io.ts";
import { type RunProgress, runPlan } from "./build/run.io.ts";
import { type Manifest, parseManifest } from "./manifest.ts";
import { fileError, readWholeFile } from "./readFile.io.ts";
import { tokenBytesOf } from "./tokenFile.ts";

export type PrepareProgress = RunProgress;

export interface PrepareOptions {
  readonly recipe: DataRecipe;
  /** Relative paths of the recipe start here. */
  readonly baseDirectory: string;
  /** Where the prepared data goes. */
  readonly directory: string;
  readonly cacheDirectory: string;
  /** Threads. Left out: one, which is this one. */
  readonly workers?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: PrepareProgress) => void) | undefined;
}

/** Prepared data on disk; open.io.ts reads it. */
export interface PreparedData {
  readonly directory: string;
  readonly manifest: Manifest;
  readonly tokenizer: Tokenizer;
  /** True where the files were there already. */
  readonly reused: boolean;
}

/** Prepared data of this plan, or undefined where there is none or a file is missing or of another size. */
async function reusable(directory: string, { sha256 }: Plan): Promise<PreparedData | undefined> {
  const place = path.join(directory, "manifest.json");
  try {
    const manifest = parseManifest(new TextDecoder().decode(await readWholeFile(place)), place);
    if (manifest.planSha256 !== sha256) return undefined;
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

/** Writes a plan into the folder that it is to fill. @throws as makePlan, and ResourceError for a full disk. */
export async function writePlan(directory: string, plan: Plan): Promise<void> {
  try {
    await mkdir(directory, { recursive: true });
    // What stands for the whole goes first, and comes back last.
    await rm(path.join(directory, "manifest.json"), { force: true });
    await replaceFile(path.join(directory, "plan.json"), (file) =>
      file.writeFile(`${JSON.stringify(plan, null, 1)}\n`),
    );
  } catch (error) {
    throw fileError(directory, error);
  }
}

/**
 * Prepares a recipe's data in `directory`, or finds it there: files of the same recipe, seed and local text are used again.
 * A run that is killed goes on where it stopped. The same recipe and seed give the same bytes, whatever the workers.
 *
 * @throws DataError, TokenizerError or ResourceError; the signal's reason.
 */
export async function prepareData(options: PrepareOptions): Promise<PreparedData> {
  const { directory, signal } = options;
  const plan = await makePlan(options);
  const found = await reusable(directory, plan);
  if (found !== undefined) return found;
  await writePlan(directory, plan);
  await runPlan(options);
  const manifest = await mergePlan({ directory, signal });
  return { directory, manifest, tokenizer: await loadTokenizer(directory), reused: false };
}
