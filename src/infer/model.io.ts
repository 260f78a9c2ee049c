/** Opens models in Node. */
import { readdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { BackendName, InstructionSet } from "../backend/backend.ts";
import { CheckpointError } from "../errors.ts";
import { resolveModelFolder } from "../formats/runFolder.io.ts";
import { countParameters } from "../model/counts.ts";
import type { RopeScaling } from "../model/ropeScaling.ts";
import type { Activations } from "../tensor/stored.ts";
import { tokenizerFromJson } from "../tokenizer/io.ts";
import type { EngineOptions } from "./localEngine.ts";
import { LanguageModel, type OpenProgress } from "./model.ts";
import { type EngineOpening, type OpenedFacts, openEngine } from "./opener.io.ts";
import { openTextSide } from "./textSide.ts";
import { openWorkerEngine } from "./worker.io.ts";

/** How a model is opened. */
export interface OpenOptions {
  /** Kernels to run on; default: native where it can be had, else wasm. */
  readonly backend?: BackendName | "auto" | undefined;
  /** Instruction set of the native kernels; default: the best there is. */
  readonly isa?: InstructionSet | undefined;
  /** Default: one for each processor. */
  readonly threads?: number | undefined;
  /** What quantised weights are multiplied with: activations of 8 bits (the default, faster), or f32. */
  readonly activations?: Activations | undefined;
  /** Most tokens of a prompt and its continuation; default: the model's. */
  readonly context?: number | undefined;
  /** Tokens that the key/value cache holds for all requests together; default: `context`. */
  readonly cacheTokens?: number | undefined;
  /** How keys and values are kept; default "f16". */
  readonly cacheType?: EngineOptions["cacheType"];
  /** Read beyond the trained context, `factor` times as far. */
  readonly ropeScaling?: RopeScaling | undefined;
  /** Compute on the caller's thread, which then waits for each pass, and not in a worker. */
  readonly inProcess?: boolean | undefined;
  /** Gives the opening up. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: OpenProgress) => void) | undefined;
  /** Told in one line, such as when the backend is not the fastest kind. */
  readonly onNotice?: ((message: string) => void) | undefined;
}

/** A name on the Hugging Face hub: owner/model. */
const HUB_NAME = /^[\w-][\w.-]*\/[\w.-]+$/;

/**
 * The file or folder that a name stands for. Names of the hub will be looked up here.
 * @throws CheckpointError for a path that is not there, and for a training run without a checkpoint.
 */
async function locate(pathOrName: string): Promise<string> {
  const there = await stat(pathOrName).catch(() => undefined);
  if (there !== undefined) return there.isDirectory() ? resolveModelFolder(pathOrName) : pathOrName;
  if (HUB_NAME.test(pathOrName) && !pathOrName.endsWith(".gguf")) {
    throw new CheckpointError(`${pathOrName}: no such file or folder`, {
      hint: "if this is a name on the Hugging Face hub: download its files first and give their folder",
    });
  }
  throw new CheckpointError(`${pathOrName}: no such file or folder, expected a model`, {
    hint: "give a .gguf file, a folder with config.json and weights, or the folder of a training run",
  });
}

/** Tells files that were replaced since from those that are open. */
async function versionOf(path: string): Promise<string> {
  const facts = async (file: string) => {
    const { size, mtimeMs, ino } = await stat(file);
    return `${file} ${ino} ${size} ${mtimeMs}`;
  };
  if (!(await stat(path)).isDirectory()) return facts(path);
  const names = (await readdir(path)).filter((name) => /\.(safetensors|json|jinja|yaml)$/.test(name));
  return (await Promise.all(names.sort().map((name) => facts(join(path, name))))).join("\n");
}

async function openFiles(path: string, options: OpenOptions) {
  const { signal, onNotice, onProgress, inProcess = false } = options;
  const { backend = "auto", isa, threads, activations, ropeScaling, context, cacheTokens, cacheType } = options;
  const real = await realpath(path);
  const version = await versionOf(real);
  const engine = { context, cacheTokens, cacheType };
  const opening: EngineOpening = { path: real, version, backend, isa, threads, activations, ropeScaling, engine };
  if (inProcess) {
    const context = { notice: (message: string) => onNotice?.(message), progress: (done: unknown) => tell(done) };
    return openEngine(opening, context, signal);
  }
  // Beside this file, in its sources and in its compiled form.
  const module = import.meta.url.replace(/model(\.io\.[jt]s)$/, "opener$1");
  return openWorkerEngine<OpenedFacts>(module, opening, { signal, onNotice, onProgress: (done) => tell(done) });

  function tell(done: unknown): void {
    onProgress?.(done as OpenProgress);
  }
}

/** A language model: text in, text and numbers out, with the routing in reach. */
export class OlmoeModel extends LanguageModel {
  /**
   * Opens a model. Files are mapped, so that this takes no longer for a large one, and the model lives in a worker, so that
   * the caller's event loop stays free; opened twice, its weights are in memory once.
   *
   * @param pathOrName a .gguf file, a folder in transformers' format, or the folder of a training run, whose newest
   *   checkpoint is taken.
   * @throws CheckpointError for what is missing, damaged or no model; TokenizerError for a model without a tokenizer;
   *   ConfigError for options that can not be; UnsupportedError for a backend that this machine does not have;
   *   ResourceError where memory is short; the signal's reason when it is aborted.
   * @example
   * await using model = await OlmoeModel.open("olmoe-1b-7b-q4_0.gguf");
   * for await (const piece of model.generate("The capital of France is", { maxTokens: 20 })) process.stdout.write(piece);
   */
  static async open(pathOrName: string, options: OpenOptions = {}): Promise<OlmoeModel> {
    options.signal?.throwIfAborted();
    const path = await locate(pathOrName);
    const { engine, info } = await openFiles(path, options);
    try {
      const { backend, types } = info;
      options.onProgress?.({ stage: "tokenizer" });
      const text = openTextSide(info.text, tokenizerFromJson, path);
      const parameters = countParameters(engine.config);
      return new OlmoeModel({ engine, ...text, path, parameters, types, backend });
    } catch (error) {
      await engine.close();
      throw error;
    }
  }
}
