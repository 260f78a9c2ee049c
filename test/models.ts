/** Small models for tests, on every backend of this machine. */
import { Graph } from "../src/autograd/graph.ts";
import type { Backend } from "../src/backend/backend.ts";
import { availableBackends } from "../src/backend/io.ts";
import { createReferenceBackend } from "../src/backend/reference/backend.ts";
import type { ModelConfig } from "../src/config/model.ts";
import { resolveModel } from "../src/config/presets.ts";
import { type CacheType, PagePool } from "../src/model/cache.ts";
import { Decoder, type ForwardOptions } from "../src/model/decoder.ts";
import { Parameters } from "../src/model/parameters.ts";
import type { WeightSource } from "../src/model/weights.ts";
import { Arena } from "../src/tensor/arena.ts";

/** All backends and instruction sets, the reference last, each under its name. */
export const allBackends: readonly (readonly [string, Backend])[] = [
  ...(await availableBackends()),
  createReferenceBackend(),
].map((backend) => [`${backend.name} ${backend.isa}`, backend]);

/** Preset tiny with grouped heads and weights large enough that tokens differ clearly. */
export function smallConfig(changes: object = {}): ModelConfig {
  return resolveModel({
    preset: "tiny",
    vocabSize: 50,
    numAttentionHeads: 4,
    numKeyValueHeads: 2,
    maxPositionEmbeddings: 160,
    initializerRange: 0.2,
    ...changes,
  });
}

/** An initialised model. */
export function createDecoder(
  backend: Backend,
  config: ModelConfig,
  { trainable = false, seed = 1, frozen = new Set<string>() } = {},
): Decoder {
  const parameters = new Parameters(backend, config, { trainable, frozen });
  parameters.initialise(seed);
  return new Decoder(backend, parameters);
}

/** An empty sequence over pages of its own, which hold f32 unless asked otherwise. */
export function createCache(
  backend: Backend,
  { config }: Pick<Decoder, "config">,
  tokens: number,
  type: CacheType = "f32",
) {
  return new PagePool(backend, config, { pages: PagePool.pagesFor(tokens), type }).sequence();
}

/** Logits [T, V] of a pass without a tape. */
export function logitsOf(
  backend: Backend,
  decoder: Decoder<WeightSource>,
  ids: ArrayLike<number>,
  options: ForwardOptions = {},
) {
  const arena = new Arena(backend);
  const graph = new Graph(backend, arena, { record: false });
  const { hidden } = decoder.forward(graph, ids, options);
  const logits = decoder.logits(graph, hidden).value.data.slice();
  arena.dispose();
  return logits;
}
