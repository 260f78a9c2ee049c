/** Opens and writes whole models: a folder with `config.json` and weights, as transformers has them. */
import type { Backend } from "../backend/backend.ts";
import type { ModelConfig } from "../config/model.ts";
import { Decoder } from "../model/decoder.ts";
import { type NamedTensor, Parameters, parameterSpecs } from "../model/parameters.ts";
import {
  checkWeights,
  type LoadOptions,
  loadWeights,
  readModelConfig,
  type StoredWeightDType,
  saveWeights,
  writeModelConfig,
} from "./huggingface.io.ts";

/**
 * A dense MLP is stored as the one expert of a mixture, which is the same function; the router that transformers then
 * wants sends every token to it, whatever its weights are.
 */
function placeholderRouters(config: ModelConfig): NamedTensor[] {
  if (config.mlpType !== "dense") return [];
  return Array.from({ length: config.numHiddenLayers }, (_, layer) => ({
    name: `model.layers.${layer}.mlp.gate.weight`,
    shape: [1, config.hiddenSize],
    data: new Float32Array(config.hiddenSize),
  }));
}

/** Reads weights into a model's parameters. @throws CheckpointError listing every tensor that does not fit. */
export async function readParameters(
  directory: string,
  parameters: Parameters,
  options: LoadOptions = {},
): Promise<void> {
  const tensors = [...parameters.tensors(), ...placeholderRouters(parameters.config)];
  const wanted = tensors.map(({ name, shape, data }) => ({ name, shape, target: data }));
  await loadWeights(directory, wanted, options);
}

/**
 * Checks that a folder has all weights that a config asks for, without reading their values.
 * @throws CheckpointError listing every tensor that does not fit.
 */
export async function checkModelWeights(directory: string, config: ModelConfig): Promise<void> {
  const tensors = parameterSpecs(config).flatMap(({ slices }) => slices);
  await checkWeights(directory, [...tensors, ...placeholderRouters(config)]);
}

export interface OpenModelOptions extends LoadOptions {
  /** Also make room for gradients. */
  readonly trainable?: boolean;
}

/** Opens a model folder on a backend. The caller disposes of the decoder and its parameters. */
export async function openModel(
  directory: string,
  backend: Backend,
  { trainable = false, signal }: OpenModelOptions = {},
): Promise<Decoder> {
  const parameters = new Parameters(backend, await readModelConfig(directory), { trainable });
  try {
    await readParameters(directory, parameters, { signal });
  } catch (error) {
    parameters.dispose();
    throw error;
  }
  return new Decoder(backend, parameters);
}

/** Writes `config.json` and weights that transformers loads as they are. */
export async function saveModel(
  directory: string,
  parameters: Parameters,
  { dtype = "f32", signal }: { readonly dtype?: StoredWeightDType; readonly signal?: AbortSignal | undefined } = {},
): Promise<void> {
  await writeModelConfig(directory, parameters.config, dtype);
  await saveWeights(directory, [...parameters.tensors(), ...placeholderRouters(parameters.config)], { dtype, signal });
}
