/**
 * Model folders as Hugging Face's hub and transformers hold them: `config.json`, and the weights in `model.safetensors`
 * or in shards that `model.safetensors.index.json` lists. Knows names and files; what the tensors mean, the model knows.
 */
import type { Stats } from "node:fs";
import { mkdir, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { configFromHuggingFace, configToHuggingFace, type TorchDType } from "../config/huggingface.ts";
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError, ConfigError, ShapeError } from "../errors.ts";
import { formatShape, shapeSize } from "../tensor/tensor.ts";
import { fileError, isMissing, readSmallFile, replaceFile } from "../util/files.io.ts";
import { SafetensorsFile, type StreamedTensor, type TensorToWrite, type WriteOptions, writeSafetensors } from "./io.ts";
import { isJsonObject, parseJson, quoted } from "./json.ts";
import { dtypeBytes, type TensorOutline } from "./safetensors.ts";
import {
  countedNames,
  type PlannedRead,
  planWeights,
  type StoredTensor,
  type WantedTensor,
  type WeightPlan,
} from "./weightPlan.ts";

export type { WantedTensor } from "./weightPlan.ts";

const CONFIG = "config.json";
const SINGLE = "model.safetensors";
const INDEX = "model.safetensors.index.json";
const WEIGHT_FILE = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/;
const MAX_CONFIG_BYTES = 1_000_000;
const MAX_INDEX_BYTES = 100_000_000;
/** Shards stay below what every file system and hub takes. */
const DEFAULT_SHARD_BYTES = 5_000_000_000;

const FAULTS_SHOWN = 8;

type Stored = StoredTensor<SafetensorsFile>;

/** @throws CheckpointError that says what was looked for, if the folder is not there. */
async function checkFolder(directory: string, lookedFor: string): Promise<void> {
  let stats: Stats;
  try {
    stats = await stat(directory);
  } catch (error) {
    if (!isMissing(error)) throw fileError("read", directory, error);
    const hubName = /^[\w.-]+\/[\w.-]+$/.test(directory) && !directory.startsWith(".");
    throw new CheckpointError(`${directory}: no such folder, looked for ${lookedFor} in it`, {
      hint: hubName
        ? "if this is a name on the Hugging Face hub: download its files first and give their folder"
        : "check the path; a training run keeps its models in runs/NAME/checkpoints",
    });
  }
  if (!stats.isDirectory()) {
    throw new CheckpointError(`${directory}: a file, expected a folder with ${lookedFor}`, {
      hint: "give the folder that holds the file",
    });
  }
}

/**
 * Reads `config.json` of a model folder.
 * @throws CheckpointError if folder or file are missing or not JSON; ConfigError listing every fault of its content.
 */
export async function readModelConfig(directory: string): Promise<ModelConfig> {
  await checkFolder(directory, CONFIG);
  const path = join(directory, CONFIG);
  return configFromHuggingFace(await readJson(path, MAX_CONFIG_BYTES), path);
}

async function readJson(path: string, maxBytes: number): Promise<unknown> {
  const result = parseJson(await readSmallFile(path, maxBytes), { maxDepth: 32 });
  if ("fault" in result) throw new CheckpointError(`${path}: ${result.fault}`);
  return result.value;
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await replaceFile(path, (file) => file.writeFile(`${JSON.stringify(value, null, 2)}\n`));
}

const TORCH_DTYPES = { f32: "float32", f16: "float16", bf16: "bfloat16" } as const satisfies Record<string, TorchDType>;

/** How weights are stored. */
export type StoredWeightDType = keyof typeof TORCH_DTYPES;

/**
 * Writes `config.json`, making the folder if needed.
 * @param dtype how the weights beside it are stored.
 * @throws ResourceError if it can not be written.
 */
export async function writeModelConfig(
  directory: string,
  config: ModelConfig,
  dtype: StoredWeightDType = "f32",
): Promise<void> {
  await makeFolder(directory);
  await writeJson(join(directory, CONFIG), configToHuggingFace(config, TORCH_DTYPES[dtype]));
}

async function makeFolder(directory: string): Promise<void> {
  await mkdir(directory, { recursive: true }).catch((error: unknown) => {
    throw fileError("write", directory, error);
  });
}

/** The index's tensor names by shard. */
async function readIndex(path: string): Promise<Map<string, string[]>> {
  const json = await readJson(path, MAX_INDEX_BYTES);
  const weightMap = isJsonObject(json) ? json.weight_map : undefined;
  if (!isJsonObject(weightMap))
    throw new CheckpointError(`${path}: weight_map: ${quoted(weightMap)}, expected an object`);
  const shards = new Map<string, string[]>();
  for (const [name, shard] of Object.entries(weightMap)) {
    if (typeof shard !== "string" || !/^[\w.-]+\.safetensors$/.test(shard)) {
      throw new CheckpointError(
        `${path}: weight_map ${quoted(name)}: ${quoted(shard)}, expected the name of a .safetensors file beside it`,
      );
    }
    const names = shards.get(shard);
    if (names) names.push(name);
    else shards.set(shard, [name]);
  }
  return shards;
}

/** The tensors of a folder, the files to close, and what was wrong with files. */
interface OpenWeights {
  readonly stored: Map<string, Stored | undefined>;
  readonly files: SafetensorsFile[];
  readonly faults: string[];
}

async function openShard(weights: OpenWeights, path: string, names: readonly string[]): Promise<void> {
  let file: SafetensorsFile;
  try {
    file = await SafetensorsFile.open(path);
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    weights.faults.push(error.message);
    for (const name of names) weights.stored.set(name, undefined);
    return;
  }
  weights.files.push(file);
  const listed = new Set(names);
  const unlisted = [...file.tensors.keys()].filter((name) => !listed.has(name));
  if (unlisted.length > 0) weights.faults.push(`${path}: ${countedNames("not in the index", unlisted)}`);
  for (const name of names) {
    const info = file.tensors.get(name);
    if (info !== undefined) weights.stored.set(name, { info, source: file });
  }
}

async function openWeights(directory: string, weights: OpenWeights): Promise<void> {
  await checkFolder(directory, `${SINGLE} or ${INDEX}`);
  const names = await readdir(directory).catch((error: unknown) => {
    throw fileError("read", directory, error);
  });
  if (names.includes(SINGLE)) {
    const file = await SafetensorsFile.open(join(directory, SINGLE));
    weights.files.push(file);
    for (const [name, info] of file.tensors) weights.stored.set(name, { info, source: file });
  } else if (names.includes(INDEX)) {
    for (const [shard, tensors] of await readIndex(join(directory, INDEX))) {
      // An index may name any number of files that do not exist: a few are enough for the message.
      if (weights.faults.length < FAULTS_SHOWN) await openShard(weights, join(directory, shard), tensors);
      else for (const name of tensors) weights.stored.set(name, undefined);
    }
  } else {
    const pickled = names.find((name) => /^pytorch_model.*\.bin$/.test(name));
    throw new CheckpointError(`${directory}: neither ${SINGLE} nor ${INDEX} is in it`, {
      hint:
        pickled === undefined
          ? "check the path; a training run keeps its models in runs/NAME/checkpoints"
          : `${pickled} is a pickle, which is not read: save the model with safe_serialization=True`,
    });
  }
}

/** Index of the first value that is NaN or at least `limit` in magnitude; -1 where there is none. */
function firstBeyond(values: Float32Array, limit: number): number {
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]!) < limit)) return i;
  return -1;
}

async function readValues(read: PlannedRead<SafetensorsFile>, signal: AbortSignal | undefined): Promise<void> {
  const { wanted, stored, storedName, start } = read;
  await stored.source.readInto(storedName, wanted.target, { start, signal });
  const index = firstBeyond(wanted.target, Number.POSITIVE_INFINITY);
  if (index >= 0) {
    throw new CheckpointError(
      `${stored.source.path}: tensor "${wanted.name}": element ${index} is ${wanted.target[index]}, expected finite weights`,
      { hint: "the model is damaged: take an earlier checkpoint or fetch it again" },
    );
  }
}

export interface LoadOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Loads weights in any of the layouts that transformers writes: one file or shards; one tensor per expert or fused
 * experts; f32, f16 or bf16, widened exactly. All names, shapes and types are checked before the first value is read.
 *
 * @param wanted the model's tensors by Hugging Face's per-expert names; the targets must stay valid until the promise
 *   settles, and hold part of the weights if it rejects.
 * @throws CheckpointError naming what was looked for, or listing at once everything missing, not wanted, of another shape
 *   or type, and every damaged shard; or naming the first weight that is NaN or infinite.
 */
export async function loadWeights(
  directory: string,
  wanted: readonly WantedTensor[],
  { signal }: LoadOptions = {},
): Promise<void> {
  for (const { name, shape, target } of wanted) checkLength(name, shape, target);
  await withPlan(directory, wanted, async (plan, files) => {
    // The order in which the values lie on the disk.
    const place = ({ stored, start }: PlannedRead<SafetensorsFile>) => stored.info.byteOffset + start;
    for (const file of files) {
      const reads = plan.reads.filter(({ stored }) => stored.source === file);
      for (const read of reads.sort((a, b) => place(a) - place(b))) await readValues(read, signal);
    }
  });
}

/**
 * Checks that a folder has all weights of a model, without reading their values.
 * @throws CheckpointError as `loadWeights` does for names, shapes, types and damaged shards.
 */
export async function checkWeights(directory: string, wanted: readonly Omit<WantedTensor, "target">[]): Promise<void> {
  const target = new Float32Array(0);
  const targets = wanted.map(({ name, shape }) => ({ name, shape, target }));
  await withPlan(directory, targets, async () => undefined);
}

/** Open files and what to read of them. */
export interface PlannedWeights {
  readonly plan: WeightPlan<SafetensorsFile>;
  readonly files: readonly SafetensorsFile[];
}

/**
 * Opens the weights of a folder and plans how to read them. The caller closes the files.
 * @param wanted targets are not used.
 * @throws CheckpointError as `loadWeights` does for names, shapes, types and damaged shards.
 */
export async function openPlannedWeights(directory: string, wanted: readonly WantedTensor[]): Promise<PlannedWeights> {
  const weights: OpenWeights = { stored: new Map(), files: [], faults: [] };
  try {
    await openWeights(directory, weights);
    const plan = planWeights(weights.stored, wanted);
    const faults = [...plan.faults, ...weights.faults];
    if (faults.length > 0) {
      throw new CheckpointError(`${directory}: ${faults.join("; ")}`, {
        hint: "the weights do not belong to this config, or a file is incomplete: fetch or write the model again",
      });
    }
    return { plan, files: weights.files };
  } catch (error) {
    await closeAll(weights.files);
    throw error;
  }
}

async function closeAll(files: readonly SafetensorsFile[]): Promise<void> {
  await Promise.all(files.map((file) => file.close()));
}

/** Opens the weights of a folder, plans how to read them, and closes them after `use`. */
async function withPlan(
  directory: string,
  wanted: readonly WantedTensor[],
  use: (plan: WeightPlan<SafetensorsFile>, files: readonly SafetensorsFile[]) => Promise<void>,
): Promise<void> {
  const { plan, files } = await openPlannedWeights(directory, wanted);
  try {
    await use(plan, files);
  } finally {
    await closeAll(files);
  }
}

function checkLength(name: string, shape: readonly number[], values: Float32Array): void {
  if (values.length !== shapeSize(shape)) {
    throw new ShapeError(`weights: "${name}" has ${values.length} values, expected ${formatShape(shape)}`);
  }
}

/** A tensor of a model that is saved. */
export interface SavedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export interface SaveOptions {
  readonly dtype: StoredWeightDType;
  /** Bytes of values from which on a second file is begun. */
  readonly maxShardBytes?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Least magnitude that rounds to infinity: half a step above the largest finite value. */
const FIRST_INFINITE = { f32: Number.POSITIVE_INFINITY, f16: 65_520, bf16: (2 - 2 ** -8) * 2 ** 127 } as const;

/** A weight that can not be stored: NaN, infinite, or beyond the largest f16. */
function checkStorable({ name, shape, data }: SavedTensor, dtype: StoredWeightDType): void {
  checkLength(name, shape, data);
  const index = firstBeyond(data, FIRST_INFINITE[dtype]);
  if (index >= 0) {
    throw new CheckpointError(`weights: "${name}": element ${index} is ${data[index]}, not finite in ${dtype}`, {
      hint: Number.isFinite(data[index]) ? "save as f32" : "the model is damaged: go back to an earlier checkpoint",
    });
  }
}

function valueBytes({ dtype, shape }: TensorOutline): number {
  return shapeSize(shape) * dtypeBytes(dtype);
}

/** Consecutive tensors in shards of at most `maxBytes` each; a larger tensor has a shard of its own. */
function splitShards<T extends TensorOutline>(tensors: readonly T[], maxBytes: number): T[][] {
  const shards: T[][] = [[]];
  let bytes = 0;
  for (const tensor of tensors) {
    const size = valueBytes(tensor);
    if (bytes > 0 && bytes + size > maxBytes) {
      shards.push([]);
      bytes = 0;
    }
    shards.at(-1)!.push(tensor);
    bytes += size;
  }
  return shards;
}

/**
 * Writes weights as transformers loads them: `model.safetensors`, or shards and their index. Files of an earlier save
 * that do not belong to this one are removed once the new ones are complete.
 *
 * @param tensors by Hugging Face's names. The same dtype there and back gives the same bits.
 * @throws ConfigError for a shard size below 1; CheckpointError for a weight that is not finite in `dtype`;
 *   ResourceError if the disk is full or the folder can not be written.
 */
export async function saveWeights(
  directory: string,
  tensors: readonly SavedTensor[],
  { dtype, maxShardBytes, signal }: SaveOptions,
): Promise<void> {
  for (const tensor of tensors) checkStorable(tensor, dtype);
  const stored = { f32: "F32", f16: "F16", bf16: "BF16" } as const;
  const entries = tensors.map((tensor) => ({ ...tensor, dtype: stored[dtype] }));
  await writeWeightFiles(directory, entries, { maxShardBytes, signal });
}

/**
 * Writes stored tensors as `saveWeights` does, each in its own type.
 * @throws ConfigError for a shard size below 1; ResourceError if the disk is full or the folder can not be written.
 */
export async function writeWeightFiles(
  directory: string,
  tensors: readonly (TensorToWrite | StreamedTensor)[],
  { maxShardBytes = DEFAULT_SHARD_BYTES, ...options }: Omit<SaveOptions, "dtype"> & Pick<WriteOptions, "onBytes">,
): Promise<void> {
  if (!(maxShardBytes >= 1)) throw new ConfigError(`maxShardBytes: ${maxShardBytes}, must be at least 1`);
  await makeFolder(directory);
  const shards = splitShards(tensors, maxShardBytes);
  const written = new Map<string, readonly TensorOutline[]>();
  // Without its index a model that is only half replaced can not be mistaken for a whole one.
  if (shards.length > 1) await removeFiles(directory, (name) => name === INDEX);
  for (const [index, shard] of shards.entries()) {
    const number = (value: number) => String(value).padStart(5, "0");
    const name = shards.length === 1 ? SINGLE : `model-${number(index + 1)}-of-${number(shards.length)}.safetensors`;
    await writeSafetensors(join(directory, name), shard, { metadata: { format: "pt" }, ...options });
    written.set(name, shard);
  }
  if (shards.length > 1) {
    const total_size = tensors.reduce((sum, tensor) => sum + valueBytes(tensor), 0);
    const weight_map = Object.fromEntries(
      [...written].flatMap(([file, shard]) => shard.map(({ name }) => [name, file])),
    );
    await writeJson(join(directory, INDEX), { metadata: { total_size }, weight_map });
  }
  // What an earlier save left could be taken for this model.
  await removeFiles(
    directory,
    (name) => WEIGHT_FILE.test(name) && !written.has(name) && !(name === INDEX && shards.length > 1),
  );
}

async function removeFiles(directory: string, isUnwanted: (name: string) => boolean): Promise<void> {
  try {
    for (const name of await readdir(directory)) if (isUnwanted(name)) await rm(join(directory, name));
  } catch (error) {
    throw fileError("write", directory, error);
  }
}
