/** Opens models in a page or in one of its workers: from files that were chosen, from bytes, or from addresses. */
import { type BrowserBackendOptions, openBackend } from "../backend/browser.ts";
import { CheckpointError, ResourceError } from "../errors.ts";
import { openStoredGguf, type StoredModel } from "../formats/stored.ts";
import { openStoredFiles } from "../formats/storedFiles.ts";
import { countParameters } from "../model/counts.ts";
import { Decoder } from "../model/decoder.ts";
import type { RopeScaling } from "../model/ropeScaling.ts";
import type { Activations } from "../tensor/stored.ts";
import { tokenizerFromJson } from "../tokenizer/browser.ts";
import { type EngineOptions, LocalEngine } from "./localEngine.ts";
import { LanguageModel, type OpenProgress } from "./model.ts";
import { openTextSide } from "./textSide.ts";

/** A file: its bytes, or where they are. */
export type FileSource = string | URL | Blob | ArrayBuffer | Uint8Array;

/**
 * A GGUF file; the address of a folder in transformers' format, ending in a slash; or the files of such a folder by name
 * (config.json, model.safetensors or its shards, tokenizer.json, tokenizer_config.json), of which a .gguf file is taken
 * alone.
 */
export type ModelSource = FileSource | Readonly<Record<string, FileSource>>;

/** How a model is opened. */
export interface OpenOptions extends BrowserBackendOptions {
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
  /** Gives the opening up. */
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: OpenProgress) => void) | undefined;
}

/** Files of a folder; those with a question mark may be missing. */
const FOLDER = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json?", "chat_template.jinja?"];

async function download(url: URL, { signal, onProgress }: OpenOptions): Promise<Uint8Array | undefined> {
  const response = await fetch(url, signal === undefined ? {} : { signal });
  if (response.status === 404) return undefined;
  if (!response.ok || response.body === null) {
    throw new ResourceError(`${url}: HTTP status ${response.status}, expected a file`, { hint: "check the address" });
  }
  const file = url.pathname.split("/").at(-1) ?? url.href;
  const of = Number(response.headers.get("content-length") ?? 0);
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  const reader = response.body.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    chunks.push(next.value);
    bytes += next.value.byteLength;
    onProgress?.({ stage: "download", file, bytes, of: Math.max(bytes, of) });
  }
  const whole = new Uint8Array(bytes);
  let place = 0;
  for (const chunk of chunks) {
    whole.set(chunk, place);
    place += chunk.byteLength;
  }
  return whole;
}

/** @returns undefined for an address without a file. */
async function bytesOf(source: FileSource, options: OpenOptions): Promise<Uint8Array | undefined> {
  if (source instanceof Uint8Array) return source;
  if (source instanceof ArrayBuffer) return new Uint8Array(source);
  if (source instanceof Blob) return new Uint8Array(await source.arrayBuffer());
  return download(new URL(source, location.href), options);
}

async function bytesOfFile(name: string, source: FileSource, options: OpenOptions): Promise<Uint8Array> {
  const bytes = await bytesOf(source, options);
  if (bytes !== undefined) return bytes;
  throw new CheckpointError(`${name}: HTTP status 404, there is no such file`, { hint: "check the address" });
}

const isFile = (source: ModelSource): source is FileSource =>
  typeof source === "string" || [URL, Blob, ArrayBuffer, Uint8Array].some((kind) => source instanceof kind);

/** The files of a model by name; a GGUF file under a name that ends in .gguf. */
async function readSource(source: ModelSource, options: OpenOptions): Promise<Map<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  if (isFile(source)) {
    const name = typeof source === "string" || source instanceof URL ? String(source) : "model.gguf";
    if (!name.endsWith("/")) return files.set("model.gguf", await bytesOfFile(name, source, options));
    for (const entry of FOLDER) {
      const file = entry.replace("?", "");
      const bytes = await bytesOf(new URL(file, new URL(name, location.href)), options);
      if (bytes !== undefined) files.set(file, bytes);
      else if (file === entry) await bytesOfFile(name + file, name + file, options);
    }
    return files;
  }
  const gguf = Object.keys(source).find((name) => name.endsWith(".gguf"));
  for (const [name, file] of Object.entries(source)) {
    if (gguf === undefined || name === gguf) files.set(name, await bytesOfFile(name, file, options));
  }
  return files;
}

/** A language model in a page: text in, text and numbers out, with the routing in reach. */
export class OlmoeModel extends LanguageModel {
  /**
   * Opens a model on the wasm backend. It computes on the caller's thread, which waits for each pass and not for a whole
   * text: a page that has to stay responsive opens it in a worker of its own, as examples/browser does.
   *
   * @throws CheckpointError for what is missing, damaged or no model; TokenizerError for a model without a tokenizer;
   *   ConfigError for options that can not be; ResourceError where memory is short or a file can not be fetched; the
   *   signal's reason when it is aborted.
   * @example
   * const model = await OlmoeModel.open(fileInput.files[0]); // a .gguf file
   * for await (const piece of model.generate("Once upon a time", { maxTokens: 50 })) output.append(piece);
   */
  static async open(source: ModelSource, options: OpenOptions = {}): Promise<OlmoeModel> {
    const { signal, onProgress, activations, ropeScaling, context, cacheTokens, cacheType } = options;
    const files = await readSource(source, options);
    signal?.throwIfAborted();
    onProgress?.({ stage: "backend" });
    const backend = await openBackend(options);
    const opened: { stored?: StoredModel; decoder?: Decoder<StoredModel> } = {};
    const dispose = () => {
      opened.decoder?.dispose();
      opened.stored?.dispose();
      backend.close();
    };
    try {
      onProgress?.({ stage: "weights" });
      const [gguf, ggufBytes] = [...files].find(([name]) => name.endsWith(".gguf")) ?? [];
      const storing = { activations, signal };
      const stored =
        gguf === undefined || ggufBytes === undefined
          ? await openStoredFiles(files, backend, storing)
          : await openStoredGguf(ggufBytes, gguf, backend, storing);
      opened.stored = stored;
      onProgress?.({ stage: "tokenizer" });
      const path = gguf ?? "model.safetensors";
      const text = openTextSide(stored.text, tokenizerFromJson, path);
      const decoder = new Decoder(backend, stored, { ropeScaling });
      opened.decoder = decoder;
      const engine = new LocalEngine(backend, decoder, { context, cacheTokens, cacheType }, { dispose });
      const facts = { name: "wasm", isa: backend.isa, threads: backend.threads } as const;
      const parameters = countParameters(engine.config);
      const types = Object.fromEntries(stored.types);
      return new OlmoeModel({ engine, ...text, path, parameters, types, backend: facts });
    } catch (error) {
      dispose();
      throw error;
    }
  }
}
