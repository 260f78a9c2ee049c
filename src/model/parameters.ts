/**
 * What tensors a model has, and the memory that holds them. Values, gradients and optimiser moments each lie in one block
 * in the same order, so that the optimiser runs over them as flat arrays.
 *
 * The parts of a layer that kernels use together lie together: one expert's gate and up matrices are neighbours, so that
 * the stack of all experts is at once transformers' fused `gate_up_proj` and, slice by slice, the per-expert tensors of
 * the published checkpoints.
 */
import type { Parameter } from "../autograd/graph.ts";
import type { ModelConfig } from "../config/model.ts";
import { headDim } from "../config/model.ts";
import { type Allocator, type Block, shapeSize, Tensor } from "../tensor/tensor.ts";
import { createRandom, fillNormal } from "../util/random.ts";

/** A tensor under its Hugging Face name, as part of a parameter. */
export interface TensorSlice {
  readonly name: string;
  readonly shape: readonly number[];
  /** First element within the parameter. */
  readonly offset: number;
}

/** One parameter as the kernels see it. */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  readonly init: "normal" | "ones";
  /** What it consists of in a checkpoint, covering it without gaps. */
  readonly slices: readonly TensorSlice[];
}

/** Names of a layer's parameters, below `model.layers.N.`. */
export const LAYER_PARAMETERS = {
  inputNorm: "input_layernorm.weight",
  q: "self_attn.q_proj.weight",
  k: "self_attn.k_proj.weight",
  v: "self_attn.v_proj.weight",
  o: "self_attn.o_proj.weight",
  qNorm: "self_attn.q_norm.weight",
  kNorm: "self_attn.k_norm.weight",
  // The norm before the experts, whatever its name says.
  mlpNorm: "post_attention_layernorm.weight",
  router: "mlp.gate.weight",
  gateUp: "mlp.experts.gate_up_proj",
  down: "mlp.experts.down_proj",
} as const;

function whole(name: string, shape: readonly number[], init: ParameterSpec["init"] = "normal"): ParameterSpec {
  return { name, shape, init, slices: [{ name, shape, offset: 0 }] };
}

/** The experts of one layer; a dense MLP is one expert that every token uses. */
function expertSpecs(config: ModelConfig, layer: string): ParameterSpec[] {
  const { hiddenSize: width, intermediateSize: inner, numExperts } = config;
  const ids = Array.from({ length: numExperts }, (_, id) => id);
  const matrix = (id: number, part: string) => `${layer}mlp.experts.${id}.${part}_proj.weight`;
  return [
    {
      name: layer + LAYER_PARAMETERS.gateUp,
      shape: [numExperts, 2 * inner, width],
      init: "normal",
      slices: ids.flatMap((id) => [
        { name: matrix(id, "gate"), shape: [inner, width], offset: id * 2 * inner * width },
        { name: matrix(id, "up"), shape: [inner, width], offset: (id * 2 + 1) * inner * width },
      ]),
    },
    {
      name: layer + LAYER_PARAMETERS.down,
      shape: [numExperts, width, inner],
      init: "normal",
      slices: ids.map((id) => ({ name: matrix(id, "down"), shape: [width, inner], offset: id * width * inner })),
    },
  ];
}

function layerSpecs(config: ModelConfig, index: number): ParameterSpec[] {
  const { hiddenSize: width, numExperts } = config;
  const kvWidth = config.numKeyValueHeads * headDim(config);
  const layer = `model.layers.${index}.`;
  const names = LAYER_PARAMETERS;
  return [
    whole(layer + names.inputNorm, [width], "ones"),
    whole(layer + names.q, [width, width]),
    whole(layer + names.k, [kvWidth, width]),
    whole(layer + names.v, [kvWidth, width]),
    whole(layer + names.o, [width, width]),
    whole(layer + names.qNorm, [width], "ones"),
    whole(layer + names.kNorm, [kvWidth], "ones"),
    whole(layer + names.mlpNorm, [width], "ones"),
    ...(config.mlpType === "moe" ? [whole(layer + names.router, [numExperts, width])] : []),
    ...expertSpecs(config, layer),
  ];
}

/** All parameters of a model, in the order they lie in memory. */
export function parameterSpecs(config: ModelConfig): ParameterSpec[] {
  const { vocabSize, hiddenSize, numHiddenLayers } = config;
  return [
    whole("model.embed_tokens.weight", [vocabSize, hiddenSize]),
    ...Array.from({ length: numHiddenLayers }, (_, index) => layerSpecs(config, index)).flat(),
    whole("model.norm.weight", [hiddenSize], "ones"),
    ...(config.tieWordEmbeddings ? [] : [whole("lm_head.weight", [vocabSize, hiddenSize])]),
  ];
}

/** A tensor of a checkpoint: its name, shape and place in memory. */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** Where a parameter or one of its slices lies in the flat blocks. */
export interface FlatRange {
  readonly name: string;
  readonly shape: readonly number[];
  /** First element. */
  readonly start: number;
  readonly size: number;
}

// Kernels read vectors of up to 16 floats: every parameter starts on such a border.
const ALIGNMENT = 16;

/** A model's parameters in memory. */
export class Parameters {
  readonly config: ModelConfig;
  /** Elements of each flat block, padding between parameters included. */
  readonly flatSize: number;
  readonly values: Tensor;
  /** All gradients, zero between steps; undefined for a model that is not trained. */
  readonly grads: Tensor | undefined;
  readonly #blocks: Block[];
  readonly #specs: readonly { readonly spec: ParameterSpec; readonly start: number }[];
  readonly #parameters = new Map<string, Parameter>();
  readonly #frozen: ReadonlySet<string>;

  /**
   * @param options `frozen`: names of checkpoint tensors that are not trained.
   * @throws ResourceError when there is no memory.
   */
  constructor(
    allocator: Allocator,
    config: ModelConfig,
    options: { readonly trainable: boolean; readonly frozen?: ReadonlySet<string> | undefined },
  ) {
    this.config = config;
    this.#frozen = options.frozen ?? new Set();
    let start = 0;
    this.#specs = parameterSpecs(config).map((spec) => {
      const placed = { spec, start };
      start += Math.ceil(shapeSize(spec.shape) / ALIGNMENT) * ALIGNMENT;
      return placed;
    });
    this.flatSize = start;
    this.#blocks = Array.from({ length: options.trainable ? 2 : 1 }, () => allocator.allocate(start * 4));
    const [values, grads] = this.#blocks.map((block) => new Tensor(block, "f32", [start]));
    this.values = values as Tensor;
    this.grads = grads;
    for (const { spec, start } of this.#specs) {
      const value = this.values.slice(start, spec.shape);
      const grad = this.grads?.slice(start, spec.shape);
      // A parameter that is not trainable never has its gradient asked for. Kernels see all experts of a layer as one: with
      // only some of them frozen, the gradients of all are computed, and those of the frozen ones dropped.
      const trainable = grad !== undefined && spec.slices.some(({ name }) => !this.#frozen.has(name));
      this.#parameters.set(spec.name, { value, grad: grad ?? value, trainable });
    }
  }

  /** Whether a checkpoint tensor is left out of training. */
  isFrozen(name: string): boolean {
    return this.#frozen.has(name);
  }

  /** Sets the gradients of frozen tensors that are part of a trained parameter back to zero. */
  dropFrozenGradients(): void {
    const { grads } = this;
    if (grads === undefined || this.#frozen.size === 0) return;
    for (const { spec, start } of this.#specs) {
      if (!this.get(spec.name).trainable) continue;
      for (const { name, shape, offset } of spec.slices) {
        if (this.#frozen.has(name)) grads.data.fill(0, start + offset, start + offset + shapeSize(shape));
      }
    }
  }

  /** A parameter by the name of its spec. */
  get(name: string): Parameter {
    const parameter = this.#parameters.get(name);
    if (parameter === undefined) throw new Error(`internal: no parameter ${name}`);
    return parameter;
  }

  /** Every checkpoint tensor's place in the flat blocks. */
  ranges(): FlatRange[] {
    return this.#specs.flatMap(({ spec, start }) =>
      spec.slices.map(({ name, shape, offset }) => ({ name, shape, start: start + offset, size: shapeSize(shape) })),
    );
  }

  /** Every checkpoint tensor over one of the flat blocks. Views: valid until the next allocation. */
  tensors(flat: Tensor = this.values): NamedTensor[] {
    const { data } = flat;
    return this.ranges().map(({ name, shape, start, size }) => ({
      name,
      shape,
      data: data.subarray(start, start + size),
    }));
  }

  /**
   * Initialises as OLMoE does: matrices from normal(0, initializerRange), drawn again beyond initializerCutoffFactor
   * deviations, norm weights at 1.
   */
  initialise(seed: number): void {
    const { data } = this.values;
    for (const { spec, start } of this.#specs) {
      const target = data.subarray(start, start + shapeSize(spec.shape));
      if (spec.init === "ones") target.fill(1);
      else {
        const random = createRandom(seed, `init/${spec.name}`);
        fillNormal(target, random, this.config.initializerRange, this.config.initializerCutoffFactor);
      }
    }
  }

  /** Gives the memory back. */
  dispose(): void {
    for (const block of this.#blocks) block.release();
  }
}
