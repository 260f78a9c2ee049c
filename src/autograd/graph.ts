/**
 * A forward pass and, when it is recorded, the way back: a tape of operations, each a forward and a backward kernel
 * call. All tensors of a pass live in one arena and are gone with it; the gradients of parameters are kept outside.
 */
import type { Backend } from "../backend/backend.ts";
import type { Flag, Kernels } from "../backend/kernels.ts";
import type { DType, Tensor } from "../tensor/tensor.ts";

/** A tensor that gradients may flow to. */
export interface Variable {
  readonly value: Tensor;
  /** Whether a gradient is wanted. */
  readonly trainable: boolean;
  /** Set during the backward pass; parameters have theirs from the start and add to it. */
  grad: Tensor | undefined;
  /** Where true, what `grad` holds is of an earlier step: the next gradient is written over it, not added. */
  outdated?: boolean;
}

/** A parameter: its gradient outlives the pass and is added to. */
export interface Parameter extends Variable {
  readonly grad: Tensor;
  readonly trainable: boolean;
}

/** Where an operation writes an input's gradient. */
export interface GradientTarget {
  readonly pointer: number;
  /** 1 where the target holds a gradient already, that the new one is added to. */
  readonly accumulate: Flag;
}

/** Where a graph's tensors come from: an Arena, or another graph. */
export interface TensorSource {
  take<D extends DType = "f32">(shape: readonly number[], dtype?: D): Tensor<D>;
  release(tensor: Tensor<DType>): void;
}

interface Node {
  readonly output: Variable;
  readonly saved: readonly Tensor<DType>[];
  readonly backward: (outputGrad: Tensor) => void;
}

export class Graph {
  readonly backend: Backend;
  readonly kernels: Kernels;
  /** Whether operations are kept for `backward`. */
  readonly recording: boolean;
  readonly #tensors: TensorSource;
  #nodes: Node[] = [];

  /** @param tensors an arena that its owner resets between passes. */
  constructor(backend: Backend, tensors: TensorSource, options: { readonly record: boolean }) {
    this.backend = backend;
    this.kernels = backend.kernels;
    this.recording = options.record;
    this.#tensors = tensors;
  }

  /** A tensor of this pass, with undefined content. */
  take<D extends DType = "f32">(shape: readonly number[], dtype: D = "f32" as D): Tensor<D> {
    return this.#tensors.take(shape, dtype);
  }

  /** A copy of ids or positions as a tensor of this pass. */
  ids(values: ArrayLike<number>, shape: readonly number[] = [values.length]): Tensor<"i32"> {
    const tensor = this.take(shape, "i32");
    tensor.data.set(values);
    return tensor;
  }

  /** A tensor that no gradient flows to. */
  constant(value: Tensor): Variable {
    return { value, trainable: false, grad: undefined };
  }

  /** Gives a tensor's memory back at once. */
  release(tensor: Tensor<DType>): void {
    this.#tensors.release(tensor);
  }

  /** Gives values back that nothing will read again; keeps them while recording, when the way back may need them. */
  discard(...variables: readonly Variable[]): void {
    if (this.recording) return;
    for (const variable of variables) this.#tensors.release(variable.value);
  }

  /**
   * The result of an operation.
   *
   * @param inputs what gradients can flow to; the node is dropped when none of them is trainable.
   * @param saved tensors kept for the backward pass only; released after it, or at once when not recording.
   * @param backward adds to the inputs' gradients, given the output's.
   */
  node(
    value: Tensor,
    inputs: readonly Variable[],
    saved: readonly Tensor<DType>[],
    backward: (outputGrad: Tensor) => void,
  ): Variable {
    const trainable = this.recording && inputs.some((input) => input.trainable);
    const output: Variable = { value, trainable, grad: undefined };
    if (trainable) this.#nodes.push({ output, saved, backward });
    else for (const tensor of saved) this.#tensors.release(tensor);
    return output;
  }

  /** Where to write the gradient of an input, or undefined where none is wanted. */
  target(variable: Variable): GradientTarget | undefined {
    if (!variable.trainable) return undefined;
    const accumulate = variable.grad !== undefined && variable.outdated !== true ? 1 : 0;
    variable.grad ??= this.take(variable.value.shape);
    variable.outdated = false;
    return { pointer: variable.grad.pointer, accumulate };
  }

  /** Adds `grad` to a variable's gradient; takes the tensor over where there is none yet. */
  give(variable: Variable, grad: Tensor): void {
    if (!variable.trainable) this.release(grad);
    else if (variable.grad === undefined) variable.grad = grad;
    else {
      const { pointer, accumulate } = this.target(variable) as GradientTarget;
      if (accumulate) this.kernels.add(pointer, grad.pointer, pointer, grad.size);
      else variable.grad.data.set(grad.data);
      this.release(grad);
    }
  }

  /**
   * Runs the tape backwards. Losses seed it: they are nodes that have given gradients to their inputs, or variables
   * whose `grad` the caller has set. Values and gradients of the pass are released on the way.
   */
  backward(): void {
    for (let node = this.#nodes.pop(); node !== undefined; node = this.#nodes.pop()) {
      const { output, saved, backward } = node;
      // The backward function may hand the gradient's memory on to an input: it is its to release.
      if (output.grad !== undefined) backward(output.grad);
      output.grad = undefined;
      this.#tensors.release(output.value);
      for (const tensor of saved) this.#tensors.release(tensor);
    }
  }
}
