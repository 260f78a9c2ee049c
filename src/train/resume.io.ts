/** Whether and where a run goes on: its newest checkpoint, whole, of the same recipe and the same data. */
import { basename, join } from "node:path";
import type { Recipe } from "../config/recipe.ts";
import type { PreparedData } from "../data/prepare.io.ts";
import { ConfigError, DataError } from "../errors.ts";
import { checkpointsOf, listCheckpoints } from "../formats/runFolder.io.ts";
import { clearUnfinished, readTrainerState, type TrainerState, verifyCheckpoint } from "./checkpoint.io.ts";

/** A checkpoint to go on from. */
export interface Start {
  readonly folder: string;
  readonly state: TrainerState;
}

export interface StartOptions {
  readonly recipe: Recipe;
  /** The run's folder. */
  readonly directory: string;
  readonly resume: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Clears away what a killed process left, and finds the newest checkpoint of a run.
 * @returns undefined where there is none.
 * @throws ConfigError for one that is not to be resumed or was trained with another recipe; CheckpointError naming its
 *   damaged files.
 */
export async function findStart({ recipe, directory, resume, signal }: StartOptions): Promise<Start | undefined> {
  const checkpoints = checkpointsOf(directory);
  for (const folder of [directory, checkpoints]) await clearUnfinished(folder);
  const folder = (await listCheckpoints(checkpoints)).at(-1);
  if (folder === undefined) return undefined;
  if (!resume) {
    throw new ConfigError(`${directory}: holds a run already (${basename(folder)})`, {
      hint: "add --resume to go on with it, or choose another folder with --out",
    });
  }
  await verifyCheckpoint(folder, signal);
  const state = await readTrainerState(folder);
  const changes = recipeChanges(state.recipe, recipe);
  if (changes.length > 0) {
    throw new ConfigError(`${folder}: was trained with another recipe: ${changes.join(", ")}`, {
      hint: `${join(directory, "recipe.json")} is the recipe of this run; start another one in another folder with --out`,
    });
  }
  return { folder, state };
}

/** How one recipe differs from another, as "path is NEW, was OLD". */
export function recipeChanges(before: unknown, now: unknown, path = ""): string[] {
  const [old, current] = [JSON.stringify(before), JSON.stringify(now)];
  if (old === current) return [];
  const plain = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (!plain(before) || !plain(now)) {
    return [`${path} is ${current === undefined ? "left out" : shorten(current)}, was ${shorten(old ?? "left out")}`];
  }
  const [left, right] = [before as Record<string, unknown>, now as Record<string, unknown>];
  const keys = new Set([...Object.keys(left), ...Object.keys(right)]);
  return [...keys].flatMap((key) => recipeChanges(left[key], right[key], path === "" ? key : `${path}.${key}`));
}

const shorten = (text: string) => (text.length > 80 ? `${text.slice(0, 77)}...` : text);

/** SHA-256 of every file of prepared data. */
export function digestsOf({ manifest }: PreparedData): Record<string, string> {
  const files = manifest.files.map(({ file, sha256 }) => [file, sha256] as const);
  return Object.fromEntries([["tokenizer.json", manifest.tokenizer.sha256], ...files]);
}

/** @throws DataError where the run was started with other data. */
export function checkData({ folder, state }: Start, data: PreparedData): void {
  const now = digestsOf(data);
  const names = [...new Set([...Object.keys(state.data), ...Object.keys(now)])];
  const changed = names.filter((name) => state.data[name] !== now[name]);
  if (changed.length > 0) {
    throw new DataError(`${folder}: was trained on other data: ${changed.join(", ")} changed`, {
      hint: "put the text back as it was, or start a new run with --out",
    });
  }
}
