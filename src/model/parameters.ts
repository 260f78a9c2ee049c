/**
 * The memory that holds a model's tensors. Values, gradients and optimiser moments each lie in one block in the same
 * order, so that the optimiser runs over them as flat arrays.
 */
import type { Parameter } from "../autograd/graph.ts";
import type { ModelConfig } from "../config/model.ts";
import { type Allocator, type Block, shapeSize, Tensor } from "../tensor/tensor.ts";
import { createRandom, fillNormal } from "../util/random.ts";
import { modelParts, type ParameterSpec } from "./parts.ts";
import type { WeightSource } from "./weights.ts";

/** All parameters of a model, each once, in the order they lie in memory. */
export function parameterSpecs(config: ModelConfig): ParameterSpec[] {
  const specs = new Map<string, ParameterSpec>();
  modelParts(config, (spec) => {
    if (!specs.has(spec.name)) specs.set(spec.name, spec);
  });
  return [...specs.values()];
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
export class Parameters implements WeightSource {
  readonly config: ModelConfig;
  /** Elements of each flat block, padding between parameters included. */
  readonly flatSize: number;
  readonly values: Tensor;
  /** All gradients, zero at first; undefined for a model that is not trained. */
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
      this.#parameters.set(spec.name, { value, grad: grad ?? value, trainable, outdated: false });
    }
  }

  /** Whether a checkpoint tensor is left out of training. */
  isFrozen(name: string): boolean {
    return this.#frozen.has(name);
  }

  /** Begins a step: what the gradients hold is of no use any more, and the first that are computed replace it. */
  outdateGradients(): void {
    for (const parameter of this.#parameters.values()) parameter.outdated = parameter.trainable;
  }

  /** Ends a backward pass: what nothing was written to in this step is set to zero. */
  clearOutdatedGradients(): void {
    for (const parameter of this.#parameters.values()) {
      if (parameter.outdated) parameter.grad.data.fill(0);
      parameter.outdated = false;
    }
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

  /** A parameter by its spec: memory is a source of weights like another. */
  weight({ name }: ParameterSpec): Parameter {
    return this.get(name);
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

  /** Fills in the start of a training run: the config's `initialization`, norm weights at 1, biases at 0. */
  initialise(seed: number): void {
    const { data } = this.values;
    for (const { spec, start } of this.#specs) {
      const target = data.subarray(start, start + shapeSize(spec.shape));
      if ("fill" in spec.initial) target.fill(spec.initial.fill);
      else fillNormal(target, createRandom(seed, `init/${spec.name}`), spec.initial.deviation, spec.initial.cutoff);
    }
  }

  /** Gives the memory back. */
  dispose(): void {
    for (const block of this.#blocks) block.release();
  }
}
