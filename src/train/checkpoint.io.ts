/**
 * Checkpoints: folders `step{N}-tokens{M}` that transformers loads as they are, with all that training needs to go on as
 * if it had never stopped. A folder is written beside its place, flushed and renamed: it is there whole or not at all.
 *
 *     config.json, model.safetensors, tokenizer.json   the model
 *     optimizer.safetensors                            AdamW's moments, `m.NAME` and `v.NAME`
 *     trainer.json                                     step, data cursor and digests, losses, resolved recipe, version
 *     routing.safetensors                              what the next record of routing depends on; not of a dense model
 *     SHA256SUMS                                       of all the others, as sha256sum -c reads it
 */
import { createHash } from "node:crypto";
import { createReadStream, existsSync } from "node:fs";
import { mkdir, open, readdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { pipeline } from "node:stream/promises";
import { z } from "zod";
import { parseConfig } from "../config/check.ts";
import { type Recipe, recipeSchema } from "../config/recipe.ts";
import type { LoaderCursor } from "../data/loader.ts";
import { CheckpointError } from "../errors.ts";
import { SafetensorsFile, type TensorToWrite, writeSafetensors } from "../formats/io.ts";
import { parseJson } from "../formats/json.ts";
import { readParameters, saveModel } from "../formats/model.io.ts";
import { checkpointStep, listCheckpoints, namesIn } from "../formats/runFolder.io.ts";
import type { Parameters } from "../model/parameters.ts";
import type { AdamW } from "../optim/adamw.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { fileError, isMissing, readSmallFile, replaceFile, syncFolder } from "../util/files.io.ts";
import { PACKAGE_VERSION } from "../util/packageRoot.io.ts";
import type { RoutingState } from "./routingMonitor.ts";
import { writeRoutingState } from "./routingState.io.ts";

/** What is being written or removed; a killed process leaves it, and the next one clears it away. */
const UNFINISHED =
  /^(step\d+-tokens\d+\.(partial|removed)|(metrics|recipe|summary|report|experiments|curves)\.[a-z]+\.\d+\.tmp|events\.[\w.]+\.tmp|\.probe-\d+)$/;
const SUMS = "SHA256SUMS";
/** Files that every checkpoint has, besides one or several of weights. */
const FILES = ["config.json", "optimizer.safetensors", "tokenizer.json", "trainer.json"];
const MAX_JSON_BYTES = 16 * 2 ** 20;

const cursorSchema = z.strictObject({
  sequenceLength: z.int().min(1),
  sources: z.array(z.strictObject({ name: z.string(), chunks: z.int().min(1), taken: z.int().min(0) })),
});

const stateSchema = z.strictObject({
  version: z.string(),
  step: z.int().min(0),
  tokens: z.int().min(0),
  priorSteps: z.int().min(0).optional(),
  cursor: cursorSchema,
  data: z.record(z.string(), z.string()),
  spikes: z.strictObject({ losses: z.array(z.number()), rewinds: z.int().min(0) }).exactOptional(),
  recipe: recipeSchema,
});

/** What `trainer.json` holds: everything but tensors. All randomness follows from the recipe's seed and the cursor. */
export interface TrainerState {
  readonly step: number;
  /** Training tokens so far. */
  readonly tokens: number;
  /** Steps that AdamW's moments had seen before this run; absent for none. */
  readonly priorSteps?: number | undefined;
  /** Where the next batch starts. */
  readonly cursor: LoaderCursor;
  /** SHA-256 of each file of the prepared data. */
  readonly data: Readonly<Record<string, string>>;
  /** Losses that the next one is held against, and returns to a checkpoint so far; absent in version 0.1.0. */
  readonly spikes?: { readonly losses: readonly number[]; readonly rewinds: number };
  /** With all defaults written out. */
  readonly recipe: Recipe;
}

/** What a checkpoint is made of in memory. */
export interface Trained {
  readonly parameters: Parameters;
  readonly optimizer: AdamW;
  /** Written when it is there; `readRoutingState` reads it. */
  readonly routing?: RoutingState | undefined;
}

async function sha256(path: string, signal?: AbortSignal): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path), hash, { signal });
  return hash.digest("hex");
}

function* momentTensors({ parameters, optimizer }: Trained): Generator<TensorToWrite> {
  for (const [prefix, flat] of Object.entries(optimizer.moments)) {
    for (const { name, shape, data } of parameters.tensors(flat)) {
      yield { name: `${prefix}.${name}`, shape, data, dtype: "F32" };
    }
  }
}

async function writeFiles(folder: string, trained: Trained, tokenizer: Tokenizer, state: TrainerState): Promise<void> {
  await saveModel(folder, trained.parameters);
  await writeSafetensors(join(folder, "optimizer.safetensors"), momentTensors(trained));
  if (trained.routing !== undefined) await writeRoutingState(folder, trained.routing);
  await replaceFile(join(folder, "tokenizer.json"), (file) => file.writeFile(tokenizer.toJson()));
  const json = JSON.stringify({ version: PACKAGE_VERSION, ...state }, null, 2);
  await replaceFile(join(folder, "trainer.json"), (file) => file.writeFile(`${json}\n`));
  const names = (await readdir(folder)).sort();
  const lines: string[] = [];
  for (const name of names) lines.push(`${await sha256(join(folder, name))}  ${name}\n`);
  await replaceFile(join(folder, SUMS), (file) => file.writeFile(lines.join("")));
}

/** Which of a run's checkpoints stay when one is written. */
export interface Retention {
  /** How many of the newest. */
  readonly keep: number;
  /**
   * Whether a step has a checkpoint in a run that nothing interrupts. One of another step is kept beside those `keep`, and
   * only until the next: so the same checkpoints are there as if nothing had happened. Default: every step.
   */
  readonly scheduled?: (step: number) => boolean;
}

/**
 * Writes a checkpoint and then removes older ones.
 * @param directory the run's folder of checkpoints.
 * @returns the checkpoint's path.
 * @throws ResourceError when the disk is full or the folder can not be written: earlier checkpoints are untouched.
 */
export async function writeCheckpoint(
  directory: string,
  trained: Trained,
  tokenizer: Tokenizer,
  state: TrainerState,
  { keep, scheduled = () => true }: Retention,
): Promise<string> {
  const target = join(directory, `step${state.step}-tokens${state.tokens}`);
  const partial = `${target}.partial`;
  try {
    await rm(partial, { recursive: true, force: true });
    await mkdir(partial, { recursive: true });
    await writeFiles(partial, trained, tokenizer, state);
    await syncFolder(partial);
    await removeCheckpoint(target);
    await rename(partial, target);
    await syncFolder(directory);
  } catch (error) {
    await rm(partial, { recursive: true, force: true }).catch(() => undefined);
    throw fileError("write", target, error);
  }
  const checkpoints = await listCheckpoints(directory);
  const kept = new Set([...checkpoints.filter((path) => scheduled(checkpointStep(path))).slice(-keep), target]);
  for (const old of checkpoints) if (!kept.has(old)) await removeCheckpoint(old);
  return target;
}

/** Removes a checkpoint, if it is there. Renamed first: a folder that is half removed must not look like one. */
export async function removeCheckpoint(folder: string): Promise<void> {
  try {
    await rename(folder, `${folder}.removed`);
    await rm(`${folder}.removed`, { recursive: true });
  } catch (error) {
    if (!isMissing(error)) throw fileError("remove", folder, error);
  }
}

/** Clears away what a killed process left half written or half removed in one folder. */
export async function clearUnfinished(directory: string): Promise<void> {
  for (const name of (await namesIn(directory)).filter((entry) => UNFINISHED.test(entry))) {
    const path = join(directory, name);
    await rm(path, { recursive: true, force: true }).catch((error) => {
      throw fileError("remove", path, error);
    });
  }
}

/** What is wrong with one file of a checkpoint; undefined for nothing. */
async function faultOf(path: string, expected: string | undefined, signal?: AbortSignal): Promise<string | undefined> {
  if (expected === undefined) return `${basename(path)} is not in ${SUMS}`;
  try {
    return (await sha256(path, signal)) === expected ? undefined : `${basename(path)} is changed`;
  } catch (error) {
    if (isMissing(error)) return `${basename(path)} is missing`;
    throw fileError("read", path, error);
  }
}

function damaged(folder: string, faults: readonly string[]): CheckpointError {
  return new CheckpointError(`${folder}: damaged, ${faults.join(", ")}`, {
    hint: "remove this folder: --resume then goes on from the checkpoint before it, or from the start",
  });
}

/** Digests by file name, as SHA256SUMS has them. */
async function readSums(folder: string): Promise<Map<string, string>> {
  const path = join(folder, SUMS);
  if (!existsSync(path)) throw damaged(folder, [`${SUMS} is missing`]);
  const sums = new TextDecoder().decode(await readSmallFile(path, MAX_JSON_BYTES));
  const lines = sums.matchAll(/^([0-9a-f]{64}) [ *](.+)$/gm);
  return new Map(Array.from(lines, ([, sum = "", name = ""]) => [basename(name), sum]));
}

/** Compares every file with SHA256SUMS. @throws CheckpointError naming the files that are missing or changed. */
export async function verifyCheckpoint(folder: string, signal?: AbortSignal): Promise<void> {
  const expected = await readSums(folder);
  const faults: string[] = [];
  for (const name of new Set([...FILES, ...expected.keys()])) {
    const fault = await faultOf(join(folder, name), expected.get(name), signal);
    if (fault !== undefined) faults.push(fault);
  }
  if (faults.length > 0) throw damaged(folder, faults);
}

/** Reads `trainer.json`. @throws CheckpointError where it is missing or listing what is wrong with it. */
export async function readTrainerState(folder: string): Promise<TrainerState> {
  const path = join(folder, "trainer.json");
  const json = parseJson(await readSmallFile(path, MAX_JSON_BYTES), { maxDepth: 32 });
  if ("fault" in json) throw new CheckpointError(`${path}: ${json.fault}`);
  try {
    return parseConfig(stateSchema, json.value, path);
  } catch (cause) {
    throw new CheckpointError((cause as Error).message, {
      hint: "the checkpoint is of another version of this package, or damaged",
      cause,
    });
  }
}

/** Reads AdamW's moments, without how many steps they have seen. @throws CheckpointError listing the tensors that do not fit. */
export async function readMoments(folder: string, trained: Trained): Promise<void> {
  const file = await SafetensorsFile.open(join(folder, "optimizer.safetensors"));
  try {
    const wanted = [...momentTensors(trained)];
    const misfits = wanted.filter(({ name, shape }) => file.tensors.get(name)?.shape.join() !== shape.join());
    if (misfits.length > 0) {
      const names = misfits.slice(0, 3).map(({ name }) => name);
      throw new CheckpointError(
        `${file.path}: ${misfits.length} of ${wanted.length} tensors are missing or of another shape (${names.join(", ")}${misfits.length > 3 ? ", ..." : ""})`,
        { hint: "the file is of another model: take another checkpoint" },
      );
    }
    for (const { name, data } of wanted) await file.readInto(name, data as Float32Array);
  } finally {
    await file.close();
  }
}

/**
 * Restores model and optimiser from a verified checkpoint, so that training goes on as if it had never stopped: the next
 * loss has the same bits on the same machine.
 * @param state of the same checkpoint.
 * @throws CheckpointError listing the tensors that do not fit the model.
 */
export async function readCheckpoint(
  folder: string,
  trained: Trained,
  { step, priorSteps = 0 }: Pick<TrainerState, "step" | "priorSteps">,
): Promise<void> {
  await readParameters(folder, trained.parameters);
  await readMoments(folder, trained);
  trained.optimizer.steps = step;
  trained.optimizer.priorSteps = priorSteps;
}

/** Opens a folder for writing, to fail before any work where that is not possible. @throws ResourceError */
export async function checkWritable(directory: string): Promise<void> {
  const probe = join(directory, `.probe-${process.pid}`);
  try {
    await mkdir(directory, { recursive: true });
    await (await open(probe, "w")).close();
    await rm(probe);
  } catch (error) {
    throw fileError("write", directory, error);
  }
}
