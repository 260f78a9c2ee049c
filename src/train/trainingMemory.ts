/**
 * What training takes of memory, found out by running the trainer over a backend that only counts (backend/dry): whatever
 * the decoder, the losses or recomputation come to hold is counted without being described here once more.
 */
import { Graph } from "../autograd/graph.ts";
import { linearCrossEntropy } from "../autograd/ops/crossEntropy.ts";
import { createDryBackend } from "../backend/dry/dry.ts";
import { headDim, type ModelConfig } from "../config/model.ts";
import { PagePool } from "../model/cache.ts";
import { Decoder } from "../model/decoder.ts";
import { Parameters } from "../model/parameters.ts";
import { Arena } from "../tensor/arena.ts";
import { passSequences } from "./evaluate.ts";
import { frozenNames } from "./patterns.ts";
import { type StepOptions, TrainStep } from "./step.ts";

/** Bytes by part. What is native memory is rounded as it is there. */
export interface TrainingMemory {
  readonly weights: number;
  readonly gradients: number;
  /** AdamW's two moments. */
  readonly optimizer: number;
  /** Cosines and sines of all positions. */
  readonly positions: number;
  /** The step arena at its largest: in the first step, or after it. */
  readonly activations: number;
  /** The arena of a held-out evaluation, which is there beside the step's; 0 where none is asked for. */
  readonly evaluation: number;
}

export interface TrainingMemoryOptions
  extends Pick<StepOptions, "sequenceLength" | "microBatchSize" | "optimizer" | "loss" | "recompute"> {
  /** Sequences in one optimiser step. */
  readonly batchSize: number;
  readonly documentMask?: boolean;
  /** Patterns of what is not trained. */
  readonly freeze?: readonly string[];
  /** Whether held-out text is scored in between; default true. */
  readonly evaluates?: boolean;
}

/** Bytes of native memory; the parts of a model are all of blocks of their own. */
export const totalBytes = (memory: object): number => Object.values(memory).reduce((sum, bytes) => sum + bytes, 0);

/** Floats that a dry run may read at once, T * D; a pass of more tokens is worked out from two smaller ones. */
const MOST_FLOATS = 2 ** 24;

/** Bytes of a pass of `tokens` tokens, in `sequences` where they are equal: passes grow by a straight line. */
function passBytes(width: number, sequences: number, length: number, run: (batch: number, length: number) => number) {
  const tokens = sequences * length;
  const most = Math.max(32, 16 * Math.floor(MOST_FLOATS / width / 16));
  if (tokens <= most) return run(sequences, length);
  const [less, more] = [run(1, most / 2), run(1, most)];
  return more + ((more - less) * (tokens - most)) / (most / 2);
}

/** A config whose rotary table is no longer than it has to be: that part is counted without filling it. */
const shortened = (config: ModelConfig, length: number): ModelConfig => ({ ...config, maxPositionEmbeddings: length });

/** The arena of two steps at its largest. */
function stepBytes(config: ModelConfig, options: TrainingMemoryOptions, batch: number, length: number): number {
  const backend = createDryBackend();
  const frozen = frozenNames(config, options.freeze ?? []);
  const decoder = new Decoder(backend, new Parameters(backend, shortened(config, length), { trainable: true, frozen }));
  const trainer = new TrainStep(backend, decoder, { ...options, sequenceLength: length, microBatchSize: batch });
  const before = backend.heldBytes;
  // The second pass of a step, and the second step, find the arena as the first has left it.
  const passes = options.batchSize > options.microBatchSize ? 2 : 1;
  const ids = new Int32Array(passes * batch * length);
  const kvStart = options.documentMask ? ids : undefined;
  for (let step = 0; step < 2; step++) trainer.run({ ids, labels: ids, kvStart }, 0);
  return backend.peakBytes - before;
}

/** The arena of two passes that keep nothing for a way back, at its largest. @param scored: with losses of every token. */
function forwardBytes(config: ModelConfig, scored: boolean, batch: number, length: number): number {
  const backend = createDryBackend();
  const decoder = new Decoder(backend, new Parameters(backend, shortened(config, length), { trainable: false }));
  const before = backend.heldBytes;
  const arena = new Arena(backend);
  const ids = new Int32Array(batch * length);
  for (let pass = 0; pass < 2; pass++) {
    arena.reset();
    const graph = new Graph(backend, arena, { record: false });
    const { hidden } = decoder.forward(graph, ids, { batch });
    if (scored) linearCrossEntropy(graph, hidden, decoder.outputWeight, graph.ids(ids), { scale: 0 });
  }
  return backend.peakBytes - before;
}

/** Bytes of the blocks that a model has besides its activations. */
function modelBytes(config: ModelConfig): { readonly weights: number; readonly positions: number } {
  const backend = createDryBackend();
  new Parameters(backend, config, { trainable: false });
  const weights = backend.heldBytes;
  backend.allocate(4 * config.maxPositionEmbeddings * headDim(config));
  return { weights, positions: backend.heldBytes - weights };
}

/** Memory of training a model. @throws ConfigError for layers to recompute or patterns of tensors that it does not have. */
export function trainingMemory(config: ModelConfig, options: TrainingMemoryOptions): TrainingMemory {
  const { sequenceLength, microBatchSize, evaluates = true } = options;
  const { weights, positions } = modelBytes(config);
  const width = config.hiddenSize;
  return {
    weights,
    gradients: weights,
    optimizer: 2 * weights,
    positions,
    activations: passBytes(width, microBatchSize, sequenceLength, (batch, length) =>
      stepBytes(config, options, batch, length),
    ),
    evaluation: evaluates
      ? passBytes(width, passSequences(sequenceLength), sequenceLength, (batch, length) =>
          forwardBytes(config, true, batch, length),
        )
      : 0,
  };
}

/** Memory of running a model on one sequence. */
export interface InferenceMemory {
  readonly weights: number;
  readonly positions: number;
  /** Keys and values of `context` positions. */
  readonly cache: number;
  /** A pass over a prompt of `prompt` tokens. */
  readonly activations: number;
}

/** @param context positions that the cache holds; @param prompt tokens of the longest pass. */
export function inferenceMemory(config: ModelConfig, context: number, prompt: number): InferenceMemory {
  const backend = createDryBackend();
  new PagePool(backend, config, { pages: PagePool.pagesFor(context), type: "f32" });
  return {
    ...modelBytes(config),
    cache: backend.heldBytes,
    activations: passBytes(config.hiddenSize, 1, prompt, (batch, length) => forwardBytes(config, false, batch, length)),
  };
}
