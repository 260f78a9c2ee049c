/**
 * Recomputation of activations (Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174): a part of
 * a pass keeps its input and its output only, and runs again, recorded, when the gradient comes back to it.
 */
import type { DType, Tensor } from "../tensor/tensor.ts";
import { Graph, type TensorSource, type Variable } from "./graph.ts";

/** What a part of a pass returns. */
export interface CheckpointedPart {
  readonly out: Variable;
  /** Tensors besides the output that are read after the part, until the gradient has passed it. */
  readonly kept: readonly Tensor<DType>[];
}

/** Keeps account of what a part takes, so that all of it can be given back, and nothing else. */
class Account implements TensorSource {
  readonly #source: TensorSource;
  readonly #taken = new Set<Tensor<DType>>();

  constructor(source: TensorSource) {
    this.#source = source;
  }

  take<D extends DType = "f32">(shape: readonly number[], dtype: D = "f32" as D): Tensor<D> {
    const tensor = this.#source.take(shape, dtype);
    this.#taken.add(tensor);
    return tensor;
  }

  /** Gives back what was taken here: the part's input belongs to the graph around it. */
  release(tensor: Tensor<DType>): void {
    if (this.#taken.delete(tensor)) this.#source.release(tensor);
  }

  /** Gives everything back but `kept`. */
  close(kept: readonly Tensor<DType>[]): void {
    for (const tensor of kept) this.#taken.delete(tensor);
    for (const tensor of this.#taken) this.#source.release(tensor);
    this.#taken.clear();
  }
}

/**
 * Runs a part of a recorded pass without keeping what is inside it. On the way back the part runs once more. It gives the
 * same bits then, because kernels do, so gradients are those of a pass that keeps everything, bit for bit.
 *
 * @param x the only variable of the pass that the part reads; parameters it may read at will.
 * @param part is called twice, first with a graph that does not record and then with one that does. Whatever it does
 *   besides computing, it should do the first time only.
 */
export function checkpoint(graph: Graph, x: Variable, part: (graph: Graph, x: Variable) => CheckpointedPart): Variable {
  const account = new Account(graph);
  const { out, kept } = part(new Graph(graph.backend, account, { record: false }), x);
  account.close([out.value, ...kept]);
  // Whether parameters inside want gradients is not known from outside: it is taken for granted.
  const parameters: Variable = { value: out.value, trainable: true, grad: undefined };
  return graph.node(out.value, [x, parameters], kept, (dout) => {
    const again = new Graph(graph.backend, graph, { record: true });
    const input: Variable = { value: x.value, trainable: x.trainable, grad: undefined };
    const recomputed = part(again, input).out;
    if (recomputed.trainable) recomputed.grad = dout;
    else graph.release(dout);
    again.backward();
    if (input.grad !== undefined) graph.give(x, input.grad);
  });
}
