/**
 * Converts models between Hugging Face folders, GGUF files and OLMo's unsharded checkpoints. Values pass in pieces; where
 * no precision is lost, converting there and back gives the same bytes.
 */
import { mkdir, readdir, realpath, rename, rm } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { stringify } from "yaml";
import type { Backend } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError, ConfigError } from "../errors.ts";
import type { StorageType } from "../tensor/stored.ts";
import { fileError, isMissing, replaceFile } from "../util/files.io.ts";
import {
  type ConversionOptions,
  convertedBytes,
  type FloatType,
  ggufType,
  isFloatType,
  matrixType,
  safetensorsType,
} from "./conversion.ts";
import { type WriteProgress, writeGguf } from "./gguf.io.ts";
import { type GgufValue, storedBytes } from "./gguf.ts";
import { configToGguf, generalMetadata } from "./ggufConfig.ts";
import { ggufLayout } from "./ggufNames.ts";
import { idsToGguf, textToGguf } from "./ggufTokenizer.ts";
import { type StoredWeightDType, writeModelConfig, writeWeightFiles } from "./huggingface.io.ts";
import { type StreamedTensor, writeSafetensors } from "./io.ts";
import { type LaidTensor, layoutSize, sliceShapes } from "./layout.ts";
import { type ModelFiles, type ModelFormat, openModelFiles } from "./modelFiles.io.ts";
import { configToOlmo, encodeOlmoName, OLMO_CONFIG, OLMO_WEIGHTS, olmoLayout } from "./olmo.ts";
import { RowCoder } from "./rowCoder.ts";
import { writeTextFiles } from "./textFiles.io.ts";

export interface ConvertOptions {
  /** Format of the output. Default: GGUF for a name that ends in ".gguf", else a Hugging Face folder. */
  readonly to?: ModelFormat | undefined;
  /** Type of the matrices. Default: as they are; f32 for quantised ones where the format can not hold them. */
  readonly type?: StoredWeightDType | undefined;
  /** Bytes of values from which on another file is begun. */
  readonly maxShardBytes?: number | undefined;
  /** Opens a backend, whose kernels decode quantised weights; not called where there are none, needed where there are. */
  readonly openBackend?: (() => Promise<Backend>) | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: WriteProgress) => void) | undefined;
  /** Told in one line what is lost or left out. */
  readonly onNotice?: ((message: string) => void) | undefined;
}

export interface Conversion {
  readonly from: ModelFormat;
  readonly to: ModelFormat;
  /** The files of a GGUF model, or the folder. */
  readonly paths: readonly string[];
  /** Of all values. */
  readonly bytes: number;
  readonly tensors: number;
  /** How many stored tensors each type has. */
  readonly types: Readonly<Partial<Record<StorageType, number>>>;
}

const FLOAT_TYPES = { f32: "F32", f16: "F16", bf16: "BF16" } as const satisfies Record<StoredWeightDType, FloatType>;
const DTYPES = { F32: "f32", F16: "f16", BF16: "bf16" } as const satisfies Record<FloatType, StoredWeightDType>;

/** llama.cpp's numbers for files whose matrices have one type. */
const FILE_TYPES: Readonly<Record<FloatType, number>> = { F32: 0, F16: 1, BF16: 32 };

/** What the writers of the formats share. */
interface Job {
  readonly model: ModelFiles;
  readonly path: string;
  readonly wanted: FloatType | undefined;
  readonly options: ConvertOptions;
  /** Passed on to what converts values. */
  readonly conversion: ConversionOptions;
  /** Of all values, once their types are known. */
  totalBytes: number;
  onBytes(count: number): void;
}

/** A stored tensor with the type it gets. */
interface TypedTensor {
  readonly tensor: LaidTensor;
  readonly type: StorageType;
}

interface Written {
  readonly paths: readonly string[];
  readonly typed: readonly TypedTensor[];
}

/**
 * Metadata of a GGUF file that is made of a model: that of the model itself where it is one already.
 * @param path of the file.
 * @param wanted the type of its matrices; undefined where each keeps its own.
 */
export function ggufMetadata(
  model: ModelFiles,
  path: string,
  layout: readonly LaidTensor[],
  wanted: FloatType | undefined,
): Map<string, GgufValue> {
  const type = wanted ?? matrixType(model);
  const fileType = isFloatType(type) ? FILE_TYPES[type] : undefined;
  const { config, metadata, text } = model;
  if (metadata !== undefined) {
    const kept = [...metadata].filter(([key]) => !key.startsWith("split."));
    return new Map(
      kept.map(([key, value]) =>
        key === "general.file_type" && fileType !== undefined
          ? [key, { type: "UINT32", value: fileType }]
          : [key, value],
      ),
    );
  }
  const name = basename(resolve(model.path));
  const { before, after } = generalMetadata(config, { name, fileType: fileType ?? 0, values: layoutSize(layout) });
  const spoken = text === undefined ? idsToGguf(config) : textToGguf(text, config.vocabSize, path);
  return new Map([...before, ...configToGguf(config), ...after, ...spoken]);
}

/** A GGUF file that is written again keeps the order of its tensors. */
function inSourceOrder(model: ModelFiles, layout: LaidTensor[]): LaidTensor[] {
  if (model.format !== "gguf") return layout;
  const place = ({ slices }: LaidTensor) => model.slices.get(slices[0]?.name ?? "") ?? { file: 0, byteOffset: 0 };
  return layout.sort((a, b) => place(a).file - place(b).file || place(a).byteOffset - place(b).byteOffset);
}

async function writeAsGguf(job: Job): Promise<Written> {
  const { model, path, wanted, options, conversion } = job;
  if (!path.endsWith(".gguf")) throw new ConfigError(`${path}: the name of a GGUF file, must end in ".gguf"`);
  const layout = inSourceOrder(model, ggufLayout(model.config));
  const metadata = ggufMetadata(model, path, layout, wanted);
  const typed = layout.map((tensor) => ({ tensor, type: ggufType(model, tensor, wanted) }));
  const tensors = typed.map(({ tensor, type }) => ({
    ...tensor,
    type,
    data: () => convertedBytes(model, tensor, type, conversion),
  }));
  const { signal, onProgress, maxShardBytes } = options;
  return { paths: await writeGguf(path, metadata, tensors, { signal, onProgress, maxShardBytes }), typed };
}

/** Types for a format of safetensors files, and the tensors as they are written. */
async function safetensorsTensors(
  job: Job,
  layout: readonly LaidTensor[],
  nameOf: (name: string) => string,
): Promise<{ typed: (TypedTensor & { readonly type: FloatType })[]; tensors: StreamedTensor[] }> {
  const { model, wanted, conversion } = job;
  const typed = [];
  for (const tensor of layout) typed.push({ tensor, type: await safetensorsType(model, tensor, wanted, conversion) });
  job.totalBytes = summary(typed).bytes;
  const tensors = typed.map(
    ({ tensor, type }): StreamedTensor => ({
      name: nameOf(tensor.name),
      shape: tensor.shape,
      dtype: type,
      bytes: () => convertedBytes(model, tensor, type, conversion),
    }),
  );
  return { typed, tensors };
}

/** One tensor per expert, and the routers that transformers wants of a dense model (model.io.ts). */
function huggingFaceLayout(config: ModelConfig): LaidTensor[] {
  const tensors = Array.from(sliceShapes(config), ([name, shape]) => ({
    name,
    shape,
    slices: [{ name, shape, transposed: false }],
  }));
  const layers = config.mlpType === "dense" ? config.numHiddenLayers : 0;
  const routers = Array.from({ length: layers }, (_, layer) => ({
    name: `model.layers.${layer}.mlp.gate.weight`,
    shape: [1, config.hiddenSize],
    slices: [],
  }));
  return [...tensors, ...routers];
}

async function writeAsHuggingFace(job: Job, folder: string): Promise<TypedTensor[]> {
  const { model, options } = job;
  const { typed, tensors } = await safetensorsTensors(job, huggingFaceLayout(model.config), (name) => name);
  const usual = job.wanted ?? matrixType(model);
  await writeModelConfig(folder, model.config, isFloatType(usual) ? DTYPES[usual] : "f32");
  const { maxShardBytes, signal } = options;
  await writeWeightFiles(folder, tensors, { maxShardBytes, signal, onBytes: job.onBytes });
  return typed;
}

/** Entries of a tokenizer, where there is one. */
function entriesOf({ text, config }: ModelFiles): number {
  const vocab = text === undefined ? {} : (JSON.parse(text.tokenizerJson).model?.vocab ?? {});
  const ids = Object.values(vocab as Record<string, number>);
  return ids.reduce((most, id) => Math.max(most, id + 1), 0) || config.vocabSize;
}

async function writeAsOlmo(job: Job, folder: string): Promise<TypedTensor[]> {
  const { model, options } = job;
  const config = configToOlmo(model.config, entriesOf(model));
  const { typed, tensors } = await safetensorsTensors(job, olmoLayout(model.config), encodeOlmoName);
  await replaceFile(join(folder, OLMO_CONFIG), (file) => file.writeFile(stringify(config)));
  await writeSafetensors(join(folder, OLMO_WEIGHTS), tensors, { signal: options.signal, onBytes: job.onBytes });
  return typed;
}

/** Writes a folder beside its place and renames it, so that it appears whole or not at all. */
async function writeFolder(job: Job, write: (folder: string) => Promise<TypedTensor[]>): Promise<Written> {
  const { model, path } = job;
  const temporary = `${resolve(path)}.${process.pid}.tmp`;
  try {
    await mkdir(temporary, { recursive: true });
    const typed = await write(temporary);
    if (model.text !== undefined) await writeTextFiles(temporary, model.text, model.config);
    job.options.signal?.throwIfAborted();
    await rename(temporary, path);
    return { paths: [path], typed };
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw fileError("write", path, error);
  }
}

/** A folder with files in it is somebody's. */
async function checkTarget(input: string, path: string, to: ModelFormat): Promise<void> {
  const [from, target] = await Promise.all([input, path].map((one) => realpath(one).catch(() => resolve(one))));
  if (from === target) throw new ConfigError(`${path}: input and output are the same`);
  if (to === "gguf") return;
  try {
    if ((await readdir(path)).length === 0) return;
  } catch (error) {
    if (isMissing(error)) return;
    throw fileError("write", path, error);
  }
  throw new CheckpointError(`${path}: the folder is not empty, expected a new one`, {
    hint: "choose another name, or remove the folder first",
  });
}

/** Tells what is lost or left out. */
function notices({ model, wanted, options }: Job, to: ModelFormat): void {
  const { onNotice } = options;
  const stored = matrixType(model);
  if (needsDecoder(model, to, wanted)) {
    onNotice?.(
      `${model.path}: quantised weights (${stored}) are decoded to ${(wanted ?? "F32").toLowerCase()}; what quantising lost is not restored`,
    );
  }
  if (model.text === undefined) onNotice?.(`${model.path}: has no tokenizer, so the output has none`);
}

/**
 * Converts a model.
 * @param input a Hugging Face folder, a GGUF file or an OLMo folder.
 * @param path a file that ends in ".gguf", or a folder that does not exist yet or is empty.
 * @throws CheckpointError for an input that is damaged, or a value that the type can not hold; UnsupportedError for a model
 *   that the format can not hold; ConfigError for options that do not fit; ResourceError if the disk is full. The output
 *   is absent then, or what it was.
 */
export async function convertModel(input: string, path: string, options: ConvertOptions = {}): Promise<Conversion> {
  const to = options.to ?? (path.endsWith(".gguf") ? "gguf" : "huggingface");
  if (to === "olmo" && options.maxShardBytes !== undefined) {
    throw new ConfigError("maxShardBytes: OLMo's unsharded checkpoint is one file");
  }
  await checkTarget(input, path, to);
  const model = await openModelFiles(input);
  let coder: RowCoder | undefined;
  try {
    const { signal, type, onProgress } = options;
    let bytes = 0;
    const onBytes = (count: number) => {
      bytes += count;
      onProgress?.({ bytes, totalBytes: job.totalBytes });
    };
    const wanted = type === undefined ? undefined : FLOAT_TYPES[type];
    if (needsDecoder(model, to, wanted) && options.openBackend !== undefined) {
      coder = new RowCoder(await options.openBackend());
    }
    const conversion = { signal, decode: coder?.decode };
    const job: Job = { model, path, wanted, options, conversion, totalBytes: 0, onBytes };
    notices(job, to);
    const { paths, typed } =
      to === "gguf"
        ? await writeAsGguf(job)
        : await writeFolder(job, (folder) => (to === "olmo" ? writeAsOlmo : writeAsHuggingFace)(job, folder));
    return { from: model.format, to, paths, ...summary(typed) };
  } finally {
    coder?.close();
    await model.close();
  }
}

/** Whether quantised weights are to become something else. */
function needsDecoder({ slices }: ModelFiles, to: ModelFormat, wanted: FloatType | undefined): boolean {
  if (to === "gguf" && wanted === undefined) return false;
  return [...slices.values()].some(({ type }) => !isFloatType(type));
}

function summary(typed: readonly TypedTensor[]): Pick<Conversion, "bytes" | "tensors" | "types"> {
  const types: Partial<Record<StorageType, number>> = {};
  let bytes = 0;
  for (const { tensor, type } of typed) {
    types[type] = (types[type] ?? 0) + 1;
    bytes += storedBytes(type, tensor.shape);
  }
  return { bytes, tensors: typed.length, types };
}
