/** Where a training run keeps its models: `checkpoints/step{N}-tokens{M}/` in its folder. */
import { readdir } from "node:fs/promises";
import { basename, join } from "node:path";
import { CheckpointError } from "../errors.ts";
import { fileError, isMissing } from "../util/files.io.ts";

const NAME = /^step(\d+)-tokens(\d+)$/;

/** Names in a folder; an absent one has none. */
export async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if (isMissing(error)) return [];
    throw fileError("read", directory, error);
  }
}

/** Where a run keeps its checkpoints. */
export const checkpointsOf = (directory: string) => join(directory, "checkpoints");

/** Step of a checkpoint, by the name of its folder. */
export function checkpointStep(path: string): number {
  return Number(NAME.exec(basename(path))?.[1]);
}

/** Checkpoints of a run, oldest first. An absent folder has none. */
export async function listCheckpoints(directory: string): Promise<string[]> {
  const names = await namesIn(directory);
  return names
    .filter((name) => NAME.test(name))
    .sort((a, b) => checkpointStep(a) - checkpointStep(b))
    .map((name) => join(directory, name));
}

/** Newest checkpoint of a run's folder. @throws CheckpointError where there is none. */
export async function newestCheckpoint(directory: string): Promise<string> {
  const newest = (await listCheckpoints(checkpointsOf(directory))).at(-1);
  if (newest === undefined) {
    throw new CheckpointError(`${directory}: no checkpoint`, { hint: "train one first: olmoe train RECIPE" });
  }
  return newest;
}

/**
 * The folder that holds a model: the one given, or for a training run its newest checkpoint.
 * @throws CheckpointError for a run without a checkpoint.
 */
export async function resolveModelFolder(directory: string): Promise<string> {
  const names = await namesIn(directory);
  return names.includes("config.json") || !names.includes("checkpoints") ? directory : newestCheckpoint(directory);
}
