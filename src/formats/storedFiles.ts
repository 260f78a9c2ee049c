/**
 * Models from files that are in memory, as a page has them: config.json and safetensors files, and the tokenizer's. The
 * same files in a folder are opened by stored.io.ts.
 */
import type { Backend, MappedFile } from "../backend/backend.ts";
import { configFromHuggingFace } from "../config/huggingface.ts";
import { CheckpointError } from "../errors.ts";
import { isJsonObject, parseJson } from "./json.ts";
import { plannedSlices, sliceShapes } from "./layout.ts";
import { parseSafetensors } from "./safetensors.ts";
import { placedBlock, type StoredModel, type StoredOptions, storeModel } from "./stored.ts";
import { textFiles } from "./textFiles.ts";
import { planWeights, type StoredTensor } from "./weightPlan.ts";

/** Files by name. */
export type FilesInMemory = ReadonlyMap<string, Uint8Array>;

function text(files: FilesInMemory, name: string): string | undefined {
  const bytes = files.get(name);
  try {
    return bytes === undefined ? undefined : new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CheckpointError(`${name}: not valid UTF-8`, { cause });
  }
}

function json(files: FilesInMemory, name: string): unknown {
  const bytes = files.get(name);
  if (bytes === undefined) return undefined;
  const result = parseJson(bytes, { maxDepth: 32 });
  if ("fault" in result) throw new CheckpointError(`${name}: ${result.fault}`);
  return result.value;
}

function readTexts(files: FilesInMemory, config: StoredModel["config"]) {
  const tokenizerJson = text(files, "tokenizer.json");
  if (tokenizerJson === undefined) return undefined;
  const settings = json(files, "tokenizer_config.json") ?? {};
  if (!isJsonObject(settings)) throw new CheckpointError("tokenizer_config.json: expected an object");
  return textFiles({ tokenizerJson, settings, template: text(files, "chat_template.jinja") }, config, "tokenizer.json");
}

/** Tensors of all safetensors files. */
function storedTensors(names: readonly string[], files: FilesInMemory): Map<string, StoredTensor<string>> {
  const tensors = new Map<string, StoredTensor<string>>();
  for (const name of names) {
    const header = parseSafetensors(files.get(name) as Uint8Array, name);
    for (const [tensor, info] of header.tensors) tensors.set(tensor, { info, source: name });
  }
  return tensors;
}

/**
 * Opens the files of a model folder. Weights are copied to the backend's memory.
 * @param files config.json, one or more .safetensors, and tokenizer.json; of others, tokenizer_config.json and
 *   chat_template.jinja are read.
 * @throws CheckpointError, ConfigError or TokenizerError for a file that is missing, damaged or of another model;
 *   ResourceError where the backend has no room.
 */
export async function openStoredFiles(
  files: FilesInMemory,
  backend: Backend,
  options: StoredOptions = {},
): Promise<StoredModel> {
  const place = "model files";
  const names = [...files.keys()].filter((name) => name.endsWith(".safetensors")).sort();
  const configJson = json(files, "config.json");
  if (configJson === undefined || names.length === 0) {
    throw new CheckpointError(
      `${place}: no ${configJson === undefined ? "config.json" : "model.safetensors"} among them (${[...files.keys()].join(", ")})`,
      { hint: "give a .gguf file, or config.json, model.safetensors and tokenizer.json together" },
    );
  }
  const config = configFromHuggingFace(configJson, "config.json");
  const target = new Float32Array(0);
  const wanted = Array.from(sliceShapes(config), ([name, shape]) => ({ name, shape, target }));
  const plan = planWeights(storedTensors(names, files), wanted);
  if (plan.faults.length > 0) {
    throw new CheckpointError(`${place}: ${plan.faults.join("; ")}`, {
      hint: "the weights do not belong to this config, or a file is missing: choose all files of one model",
    });
  }
  const bytesOf = (file: number) => files.get(names[file] as string) as Uint8Array;
  const placed: MappedFile[] = [];
  try {
    for (const index of names.keys()) {
      const bytes = bytesOf(index);
      const block = backend.allocate(bytes.byteLength);
      new Uint8Array(block.buffer, block.byteOffset, bytes.byteLength).set(bytes);
      placed.push(placedBlock(block));
    }
    const parts = {
      place,
      config,
      slices: plannedSlices(plan, (name) => names.indexOf(name)),
      text: readTexts(files, config),
      read: async ({ file, byteOffset }: { readonly file: number; readonly byteOffset: number }, into: Uint8Array) => {
        into.set(bytesOf(file).subarray(byteOffset, byteOffset + into.byteLength));
      },
    };
    return await storeModel(parts, placed.splice(0), backend, options);
  } finally {
    for (const file of placed) file.release();
  }
}
