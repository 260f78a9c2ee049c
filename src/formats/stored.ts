/**
 * Models whose weights stay as files hold them: matrices where the file's bytes lie, to be decoded by kernels on the way;
 * norms and routers as f32. Which bytes are which weight, a format's layout has said (layout.ts).
 */
import type { Variable } from "../autograd/graph.ts";
import type { Backend, MappedFile } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import { CheckpointError } from "../errors.ts";
import { parameterSpecs } from "../model/parameters.ts";
import type { ParameterSpec, TensorSlice } from "../model/parts.ts";
import type { Weight, WeightSource } from "../model/weights.ts";
import type { Activations, StorageType, StoredWeight } from "../tensor/stored.ts";
import { type Block, shapeSize, Tensor } from "../tensor/tensor.ts";
import { parseGguf } from "./gguf.ts";
import { configFromGguf } from "./ggufConfig.ts";
import { ggufLayout } from "./ggufNames.ts";
import { type TextFiles, textFromGguf } from "./ggufTokenizer.ts";
import { type PlacedSlice, type PlacedTensor, placeSlices, staysF32 } from "./layout.ts";
import { decodeF32, isWeightDType } from "./safetensors.ts";

export interface StoredOptions {
  /** How products treat the other side of quantised weights. Default: "q8". */
  readonly activations?: Activations | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An opened model: what a decoder takes, and its text side. */
export interface StoredModel extends WeightSource {
  readonly config: ModelConfig;
  /** The weight of a part of this model, found by the name of its description. */
  weight(spec: ParameterSpec): Weight;
  /** Text of a tokenizer.json. */
  readonly tokenizerJson: string | undefined;
  readonly chatTemplate: string | undefined;
  /** Tokenizer, template and tokens with a role; undefined for a model without a tokenizer. */
  readonly text: TextFiles | undefined;
  /** How many tensors of each type there are, counted by Hugging Face's names. */
  readonly types: ReadonlyMap<StorageType, number>;
  /**
   * To be asked after each pass.
   * @throws CheckpointError once a file has changed or could not be read while it was in use: what was computed is wrong.
   */
  check(): void;
  /** Gives memory and mappings back. The weights must not be used any more. */
  dispose(): void;
}

/** What is known of a model before its bytes are placed. */
export interface StoredParts {
  /** The file or folder, for messages. */
  readonly place: string;
  readonly config: ModelConfig;
  readonly slices: ReadonlyMap<string, PlacedSlice>;
  readonly text: TextFiles | undefined;
  /** Reads stored bytes of a tensor. */
  read(slice: PlacedSlice, target: Uint8Array): Promise<void>;
}

/** Kernels read vectors of up to this many floats. */
const FLOAT_ALIGNMENT = 16;

/** Addresses of values are multiples of this: blocks begin with halves. */
function valueBytes(type: StorageType): number {
  return type === "F32" ? 4 : 2;
}

class Store implements StoredModel {
  readonly config: ModelConfig;
  readonly text: TextFiles | undefined;
  readonly types = new Map<StorageType, number>();
  readonly #weights = new Map<string, Weight>();
  readonly #blocks: Block[] = [];
  readonly #parts: StoredParts;
  readonly #files: readonly MappedFile[];
  readonly #backend: Backend;

  /** @param files are this object's from here on. */
  constructor(parts: StoredParts, files: readonly MappedFile[], backend: Backend) {
    this.config = parts.config;
    this.text = parts.text;
    this.#parts = parts;
    this.#files = files;
    this.#backend = backend;
  }

  get tokenizerJson(): string | undefined {
    return this.text?.tokenizerJson;
  }

  get chatTemplate(): string | undefined {
    return this.text?.chatTemplate;
  }

  async fill({ activations = "q8", signal }: StoredOptions): Promise<void> {
    for (const { type } of this.#parts.slices.values()) this.types.set(type, (this.types.get(type) ?? 0) + 1);
    const specs = parameterSpecs(this.config);
    const isF32 = ({ slices }: ParameterSpec) => slices.every(({ name, shape }) => staysF32(name, shape));
    await this.#fillVectors(specs.filter(isF32), signal);
    for (const spec of specs.filter((spec) => !isF32(spec))) {
      signal?.throwIfAborted();
      this.#weights.set(spec.name, await this.#matrices(spec, activations));
    }
  }

  weight({ name }: ParameterSpec): Weight {
    const weight = this.#weights.get(name);
    if (weight === undefined) throw new Error(`internal: no weight ${name}`);
    return weight;
  }

  check(): void {
    for (const file of this.#files) file.check();
  }

  dispose(): void {
    for (const block of this.#blocks.splice(0)) block.release();
    for (const file of this.#files) file.release();
    this.#weights.clear();
  }

  #slice({ name }: TensorSlice): PlacedSlice {
    const slice = this.#parts.slices.get(name);
    if (slice === undefined) throw new Error(`internal: no tensor ${name}`);
    if (slice.transposed) {
      throw new CheckpointError(`${this.#parts.place}: ${name} is stored transposed, which kernels do not read`, {
        hint: "convert the model first: olmoe convert IN OUT.gguf",
      });
    }
    return slice;
  }

  #allocate(byteLength: number): Block {
    const block = this.#backend.allocate(byteLength);
    this.#blocks.push(block);
    return block;
  }

  /** Norms and routers, in one block. */
  async #fillVectors(specs: readonly ParameterSpec[], signal: AbortSignal | undefined): Promise<void> {
    const padded = ({ shape }: ParameterSpec) => Math.ceil(shapeSize(shape) / FLOAT_ALIGNMENT) * FLOAT_ALIGNMENT;
    const block = this.#allocate(specs.reduce((sum, spec) => sum + padded(spec), 0) * 4);
    let offset = 0;
    for (const spec of specs) {
      signal?.throwIfAborted();
      const value = new Tensor(block, "f32", spec.shape, offset * 4);
      for (const slice of spec.slices) {
        const values = await this.#decoded(slice);
        value.data.set(values, slice.offset);
      }
      const variable: Variable = { value, trainable: false, grad: undefined };
      this.#weights.set(spec.name, variable);
      offset += padded(spec);
    }
  }

  async #decoded(slice: TensorSlice): Promise<Float32Array> {
    const placed = this.#slice(slice);
    const { type, byteLength } = placed;
    const { place } = this.#parts;
    if (!isWeightDType(type as never)) {
      throw new CheckpointError(`${place}: ${slice.name} is stored as ${type}, expected F32, F16 or BF16`);
    }
    const bytes = new Uint8Array(byteLength);
    await this.#parts.read(placed, bytes);
    const values = new Float32Array(shapeSize(slice.shape));
    decodeF32(bytes, type as "F32" | "F16" | "BF16", values);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      throw new CheckpointError(`${place}: ${slice.name}: element ${bad} is ${values[bad]}, expected finite weights`, {
        hint: "the model is damaged: fetch it again",
      });
    }
    return values;
  }

  /** A matrix, or matrices that kernels use together, where they lie. */
  async #matrices({ name, shape, slices }: ParameterSpec, activations: Activations): Promise<StoredWeight> {
    const parts = slices.map((slice) => this.#slice(slice));
    const types = new Set(parts.map(({ type }) => type));
    const [type] = types;
    const [rows, columns] = slices[0]?.shape ?? [];
    if (type === undefined || rows === undefined || columns === undefined)
      throw new Error(`internal: ${name} is empty`);
    if (types.size > 1) {
      throw new CheckpointError(
        `${this.#parts.place}: ${name} consists of ${[...types].join(" and ")}, expected one type`,
        {
          hint: "convert the model to one type: olmoe convert IN OUT.gguf --type bf16",
        },
      );
    }
    const places: number[] = [];
    for (const part of parts) places.push(await this.#address(part));
    const addresses = new Tensor(this.#allocate(parts.length * 8), "f64", [parts.length]);
    addresses.data.set(places);
    return { type, shape, rows, columns, addresses, activations };
  }

  /** Where a part lies; one that begins between two values, as old safetensors files have it, is copied. */
  async #address(part: PlacedSlice): Promise<number> {
    const address = (this.#files[part.file] as MappedFile).address + part.byteOffset;
    if (address % valueBytes(part.type) === 0) return address;
    const bytes = new Uint8Array(part.byteLength);
    await this.#parts.read(part, bytes);
    const block = this.#allocate(part.byteLength);
    new Uint8Array(block.buffer, block.byteOffset, part.byteLength).set(bytes);
    return block.address;
  }
}

/**
 * Makes a model of placed files. Nothing of the matrices is read.
 * @param files in the order that the slices count them; released with the model, or here if this fails.
 * @throws CheckpointError for norms that are not finite or quantised, and matrices that kernels can not take together;
 *   ResourceError where memory for norms and routers is not to be had.
 */
export async function storeModel(
  parts: StoredParts,
  files: readonly MappedFile[],
  backend: Backend,
  options: StoredOptions = {},
): Promise<StoredModel> {
  const store = new Store(parts, files, backend);
  try {
    await store.fill(options);
    return store;
  } catch (error) {
    store.dispose();
    throw error;
  }
}

/** Bytes that are in a backend's memory. */
export function placedBlock(block: Block): MappedFile {
  return {
    address: block.address,
    byteLength: block.byteLength,
    check: () => undefined,
    release: () => block.release(),
  };
}

/**
 * Opens a GGUF file that is in memory, such as one that a page has fetched. The bytes are copied to the backend's memory.
 * @param place the file, for messages.
 * @throws CheckpointError, ConfigError or TokenizerError for a file that is damaged or of another model; ResourceError
 *   where the backend has no room.
 */
export async function openStoredGguf(
  bytes: Uint8Array,
  place: string,
  backend: Backend,
  options: StoredOptions = {},
): Promise<StoredModel> {
  const header = parseGguf(bytes, bytes.byteLength, place);
  if ("neededBytes" in header) throw new Error("internal: a whole file needs more bytes");
  const config = configFromGguf(header.metadata, header.tensors, place);
  const tensors = new Map<string, PlacedTensor>();
  for (const [name, info] of header.tensors) tensors.set(name, { ...info, file: 0 });
  const parts: StoredParts = {
    place,
    config,
    slices: placeSlices(ggufLayout(config), tensors, place),
    text: textFromGguf(header.metadata, place),
    read: async ({ byteOffset }, target) => target.set(bytes.subarray(byteOffset, byteOffset + target.byteLength)),
  };
  const block = backend.allocate(bytes.byteLength);
  new Uint8Array(block.buffer, block.byteOffset, bytes.byteLength).set(bytes);
  return storeModel(parts, [placedBlock(block)], backend, options);
}
