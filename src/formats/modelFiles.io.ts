/**
 * The files of a model in any format that is read, seen alike: its config, its text side, and where each tensor lies under
 * Hugging Face's name of one tensor per expert. No value is read.
 */
import type { FileHandle } from "node:fs/promises";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { parseDocument } from "yaml";
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import { fileError, isMissing, readFully, readSmallFile } from "../util/files.io.ts";
import { GgufFile } from "./gguf.io.ts";
import type { GgufValue } from "./gguf.ts";
import { configFromGguf } from "./ggufConfig.ts";
import { ggufLayout } from "./ggufNames.ts";
import { type TextFiles, textFromGguf } from "./ggufTokenizer.ts";
import { openPlannedWeights, readModelConfig } from "./huggingface.io.ts";
import { SafetensorsFile } from "./io.ts";
import { quoted } from "./json.ts";
import { type PlacedSlice, type PlacedTensor, placeSlices, plannedSlices, sliceShapes } from "./layout.ts";
import { configFromOlmo, decodeOlmoName, OLMO_CONFIG, OLMO_WEIGHTS, olmoLayout } from "./olmo.ts";
import { isWeightDType } from "./safetensors.ts";
import { readTextFiles } from "./textFiles.io.ts";

/** How a model is stored. */
export type ModelFormat = "gguf" | "huggingface" | "olmo";

const MAX_YAML_BYTES = 2 ** 20;

interface OpenedFile {
  readonly path: string;
  readonly byteLength: number;
  /** @internal */
  readonly handle: FileHandle;
}

/** An opened model. */
export interface ModelFiles {
  readonly format: ModelFormat;
  /** The path that was given. */
  readonly path: string;
  readonly config: ModelConfig;
  readonly files: readonly OpenedFile[];
  /** By Hugging Face's names of one tensor per expert. */
  readonly slices: ReadonlyMap<string, PlacedSlice>;
  /** Undefined for a model without a tokenizer. */
  readonly text: TextFiles | undefined;
  /** Of GGUF files. */
  readonly metadata: ReadonlyMap<string, GgufValue> | undefined;
  /** Reads stored bytes of a tensor from byte `start` of it on. */
  read(slice: PlacedSlice, target: Uint8Array, start?: number): Promise<void>;
  close(): Promise<void>;
}

type Parts = Pick<ModelFiles, "format" | "config" | "files" | "slices" | "text"> & {
  readonly metadata?: ReadonlyMap<string, GgufValue>;
  readonly close: () => Promise<void>;
};

function modelFiles(path: string, parts: Parts): ModelFiles {
  return {
    path,
    metadata: undefined,
    ...parts,
    async read({ file, byteOffset }, target, start = 0) {
      const { handle, path } = parts.files[file] as OpenedFile;
      await readFully(handle, path, target, byteOffset + start);
    },
  };
}

async function openGguf(path: string): Promise<ModelFiles> {
  const file = await GgufFile.open(path);
  try {
    const { metadata, tensors } = file;
    const config = configFromGguf(metadata, tensors, path);
    const slices = placeSlices(ggufLayout(config), tensors, path);
    const text = textFromGguf(metadata, path);
    const files = file.handles.map((handle, index) => ({
      path: file.paths[index] as string,
      byteLength: file.fileBytes[index] as number,
      handle,
    }));
    return modelFiles(path, { format: "gguf", config, files, slices, text, metadata, close: () => file.close() });
  } catch (error) {
    await file.close();
    throw error;
  }
}

function opened(file: SafetensorsFile): OpenedFile {
  return { path: file.path, byteLength: file.fileBytes, handle: file.handle };
}

async function openHuggingFace(path: string): Promise<ModelFiles> {
  const config = await readModelConfig(path);
  const target = new Float32Array(0);
  const wanted = Array.from(sliceShapes(config), ([name, shape]) => ({ name, shape, target }));
  const text = await readTextFiles(path, config);
  const { plan, files } = await openPlannedWeights(path, wanted);
  const slices = plannedSlices(plan, (file) => files.indexOf(file));
  const close = async () => {
    await Promise.all(files.map((file) => file.close()));
  };
  return modelFiles(path, { format: "huggingface", config, files: files.map(opened), slices, text, close });
}

async function readYaml(path: string): Promise<unknown> {
  const text = new TextDecoder().decode(await readSmallFile(path, MAX_YAML_BYTES));
  try {
    const document = parseDocument(text, { logLevel: "error" });
    if (document.errors[0] !== undefined) throw document.errors[0];
    return document.toJS();
  } catch (cause) {
    throw new CheckpointError(`${path}: not YAML, ${(cause as Error).message.split("\n")[0]}`, { cause });
  }
}

async function openOlmo(path: string): Promise<ModelFiles> {
  const given = configFromOlmo(await readYaml(join(path, OLMO_CONFIG)), join(path, OLMO_CONFIG));
  const text = await readTextFiles(path, given);
  const config = { ...given, eosTokenId: text?.roles.eos ?? given.eosTokenId };
  const place = join(path, OLMO_WEIGHTS);
  const file = await SafetensorsFile.open(place);
  try {
    const tensors = new Map<string, PlacedTensor>();
    for (const [name, { dtype, shape, byteOffset }] of file.tensors) {
      if (!isWeightDType(dtype)) {
        throw new CheckpointError(`${place}: tensor ${quoted(name)} has type ${dtype}, expected F32, F16 or BF16`);
      }
      tensors.set(decodeOlmoName(name), { type: dtype, shape, byteOffset, file: 0 });
    }
    const slices = placeSlices(olmoLayout(config), tensors, place);
    return modelFiles(path, {
      format: "olmo",
      config,
      files: [opened(file)],
      slices,
      text,
      close: () => file.close(),
    });
  } catch (error) {
    await file.close();
    throw error;
  }
}

async function isFile(path: string): Promise<boolean> {
  return stat(path).then(
    (facts) => facts.isFile(),
    () => false,
  );
}

/**
 * Opens a GGUF file (of a split model any of its files), a Hugging Face folder or an OLMo folder.
 * @throws CheckpointError for what is none of them, a damaged file, or tensors that do not fit the config; ConfigError and
 *   TokenizerError for faults of those parts; ResourceError if a file can not be read.
 */
export async function openModelFiles(path: string): Promise<ModelFiles> {
  let isFolder: boolean;
  try {
    isFolder = (await stat(path)).isDirectory();
  } catch (error) {
    if (!isMissing(error)) throw fileError("read", path, error);
    // Says what a folder of that name would need, and what a name of the hub is.
    if (!path.endsWith(".gguf")) return openHuggingFace(path);
    throw new CheckpointError(`${path}: no such file`, { hint: "check the path" });
  }
  if (!isFolder) return openGguf(path);
  const [isHub, isOlmo] = await Promise.all([isFile(join(path, "config.json")), isFile(join(path, OLMO_CONFIG))]);
  return isOlmo && !isHub ? openOlmo(path) : openHuggingFace(path);
}
