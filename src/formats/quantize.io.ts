/**
 * Quantises models: any that is read becomes a GGUF file in which each tensor has the type that a preset gives it. Values
 * pass in pieces of a million, so memory does not grow with the model.
 */
import { realpath } from "node:fs/promises";
import { resolve } from "node:path";
import type { Backend } from "../backend/backend.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import { STORAGE_TYPES, type StorageType } from "../tensor/stored.ts";
import { shapeSize } from "../tensor/tensor.ts";
import { convertedBytes, ggufType, isFloatType } from "./conversion.ts";
import { ggufMetadata } from "./convert.io.ts";
import { writeGguf } from "./gguf.io.ts";
import { type GgufValue, storedBytes } from "./gguf.ts";
import { ggufLayout } from "./ggufNames.ts";
import type { LaidTensor } from "./layout.ts";
import { type ModelFiles, openModelFiles } from "./modelFiles.io.ts";
import { byLayerAndName, chooseTypes, QUANTIZE_PRESETS, type QuantizePreset } from "./quantizePresets.ts";
import { addErrors, type CodingError, NO_ERROR, RowCoder, relativeError } from "./rowCoder.ts";

/** GGML's version of the types' layouts. */
const QUANTIZATION_VERSION = 2;

export interface QuantizeProgress {
  /** The tensor whose values are being written. */
  readonly tensor: string;
  /** Stored bytes of the input that are done, and all. */
  readonly bytes: number;
  readonly totalBytes: number;
}

export interface QuantizeOptions {
  readonly type: QuantizePreset;
  /** Whose kernels and threads are used. */
  readonly backend: Backend;
  /** Quantise what is quantised already, which adds to its error. */
  readonly allowRequantize?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: QuantizeProgress) => void) | undefined;
}

/** What became of one tensor. */
export interface QuantizedTensor {
  readonly name: string;
  /** Slowest dimension first. */
  readonly shape: readonly number[];
  readonly from: StorageType;
  readonly type: StorageType;
  readonly bytes: number;
  /** Root of the summed squared differences to the input's values, relative to that of the values. */
  readonly relativeError: number;
  /** The largest difference of one value. */
  readonly worst: number;
}

export interface Quantization {
  readonly path: string;
  /** In the order of the file. */
  readonly tensors: readonly QuantizedTensor[];
  /** Of all values, in the input and in the output. */
  readonly inputBytes: number;
  readonly bytes: number;
  readonly bitsPerWeight: number;
  /** Of all tensors together. */
  readonly relativeError: number;
  readonly worst: number;
}

/** A tensor on its way: its type in the input (F32 where its slices have several) and in the output. */
interface Task {
  readonly tensor: LaidTensor;
  readonly from: StorageType;
  readonly type: StorageType;
}

function planTasks(model: ModelFiles, preset: QuantizePreset): Task[] {
  const { config } = model;
  const layout = ggufLayout(config).sort(byLayerAndName);
  const tensors = layout.map((tensor) => ({ ...tensor, type: ggufType(model, tensor, undefined) }));
  const types = chooseTypes(preset, tensors, {
    layers: config.numHiddenLayers,
    experts: config.mlpType === "dense" ? 0 : config.numExperts,
    heads: config.numAttentionHeads,
    kvHeads: config.numKeyValueHeads,
  });
  return tensors.map(({ type: from, ...tensor }) => ({ tensor, from, type: types.get(tensor.name) ?? from }));
}

function checkRequantize({ path, slices }: ModelFiles, tasks: readonly Task[]): void {
  for (const { tensor, type } of tasks) {
    const quantised = tensor.slices
      .map(({ name }) => slices.get(name)?.type ?? "F32")
      .find((from) => !isFloatType(from) && from !== type);
    if (quantised === undefined) continue;
    throw new CheckpointError(
      `${path}: tensor "${tensor.name}" is quantised already (${quantised}), expected F32, F16 or BF16`,
      { hint: "quantise the original model, or add --allow-requantize and accept a larger error" },
    );
  }
}

/** What `llama-quantize` changes: the kind of file and the version of the layouts come last. */
function metadataOf(model: ModelFiles, path: string, preset: QuantizePreset): Map<string, GgufValue> {
  const metadata = ggufMetadata(model, path, ggufLayout(model.config), undefined);
  metadata.delete("general.quantization_version");
  metadata.delete("general.file_type");
  metadata.set("general.quantization_version", { type: "UINT32", value: QUANTIZATION_VERSION });
  metadata.set("general.file_type", { type: "UINT32", value: QUANTIZE_PRESETS[preset].fileType });
  return metadata;
}

/** What is shared while a model is written. */
interface Job {
  readonly model: ModelFiles;
  readonly coder: RowCoder;
  readonly signal: AbortSignal | undefined;
  /** Errors of the tensors that are written, by name. */
  readonly errors: Map<string, CodingError>;
  onBytes(tensor: string, count: number): void;
}

/** The stored bytes of a tensor in its new type. */
async function* codedBytes(job: Job, { tensor, from, type }: Task): AsyncGenerator<Uint8Array> {
  const { model, coder, signal, errors } = job;
  const columns = tensor.shape.at(-1) ?? 1;
  const { blockBytes, blockValues } = STORAGE_TYPES[from];
  let error = NO_ERROR;
  let done = 0;
  for await (const piece of convertedBytes(model, tensor, from, { signal, decode: coder.decode })) {
    if (from === type) yield piece;
    else {
      const coded = coder.code(from, piece, type, columns);
      if ("index" in coded) throw cannotStore(model.path, tensor.name, done + coded.index, coded.value, type);
      error = addErrors(error, coded.error);
      yield coded.bytes;
    }
    done += (piece.byteLength / blockBytes) * blockValues;
    job.onBytes(tensor.name, piece.byteLength);
  }
  errors.set(tensor.name, error);
}

function cannotStore(path: string, name: string, index: number, value: number, type: StorageType): CheckpointError {
  const place = `${path}: tensor "${name}": element ${index} is ${value}`;
  return Number.isFinite(value)
    ? new CheckpointError(`${place}, too large for ${type}`, { hint: "choose --type bf16" })
    : new CheckpointError(`${place}, expected finite weights`, {
        hint: "the model is damaged: fetch it again or go back to an earlier checkpoint",
      });
}

async function checkPaths(input: string, path: string): Promise<void> {
  if (!path.endsWith(".gguf")) throw new ConfigError(`${path}: the name of a GGUF file, must end in ".gguf"`);
  const [from, to] = await Promise.all([input, path].map((one) => realpath(one).catch(() => resolve(one))));
  if (from === to) throw new ConfigError(`${path}: input and output are the same`);
}

function summary(path: string, tasks: readonly Task[], errors: ReadonlyMap<string, CodingError>): Quantization {
  const tensors = tasks.map(({ tensor: { name, shape }, from, type }): QuantizedTensor => {
    const error = errors.get(name) ?? NO_ERROR;
    const bytes = storedBytes(type, shape);
    return { name, shape, from, type, bytes, relativeError: relativeError(error), worst: error.worst };
  });
  const total = [...errors.values()].reduce(addErrors, NO_ERROR);
  const bytes = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const values = tensors.reduce((sum, { shape }) => sum + shapeSize(shape), 0);
  return {
    path,
    tensors,
    inputBytes: tensors.reduce((sum, { from, shape }) => sum + storedBytes(from, shape), 0),
    bytes,
    bitsPerWeight: (8 * bytes) / values,
    relativeError: relativeError(total),
    worst: total.worst,
  };
}

/**
 * Quantises a model.
 * @param input a Hugging Face folder, a GGUF file or an OLMo folder.
 * @param path a file that ends in ".gguf"; it appears whole or not at all.
 * @throws CheckpointError for an input that is damaged, a weight that is not finite or too large for its type, and one that
 *   is quantised already unless that is allowed; UnsupportedError for a model that GGUF can not hold; ConfigError for paths
 *   that do not fit; ResourceError if the disk is full; the signal's reason.
 */
export async function quantizeModel(input: string, path: string, options: QuantizeOptions): Promise<Quantization> {
  const { type, backend, allowRequantize = false, signal, onProgress } = options;
  await checkPaths(input, path);
  const model = await openModelFiles(input);
  const coder = new RowCoder(backend);
  try {
    const tasks = planTasks(model, type);
    if (!allowRequantize) checkRequantize(model, tasks);
    const totalBytes = tasks.reduce((sum, { tensor, from }) => sum + storedBytes(from, tensor.shape), 0);
    let bytes = 0;
    const onBytes = (tensor: string, count: number) => {
      bytes += count;
      onProgress?.({ tensor, bytes, totalBytes });
    };
    const job: Job = { model, coder, signal, errors: new Map(), onBytes };
    const tensors = tasks.map((task) => ({
      name: task.tensor.name,
      shape: task.tensor.shape,
      type: task.type,
      data: () => codedBytes(job, task),
    }));
    await writeGguf(path, metadataOf(model, path, type), tensors, { signal });
    return summary(path, tasks, job.errors);
  } finally {
    coder.close();
    await model.close();
  }
}
