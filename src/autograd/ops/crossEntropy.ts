/** The output layer and its loss in one, in chunks of tokens, so that tokens x vocabulary never exists at once. */
import { ShapeError } from "../../errors.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";
import { isStored, multiplyStored, type Weight, weightShape } from "./stored.ts";

/** Logits held at a time. */
const CHUNK_ELEMENTS = 8 * 2 ** 20;

export interface CrossEntropyOptions {
  /** Weight of each target's loss in the total: 1 / targets for a mean. Unused when not recording. */
  readonly scale: number;
  /** Tokens whose logits are held at a time; default: as many as fit in 32 MiB. */
  readonly chunk?: number;
}

/**
 * Cross-entropy of logits = x W^T against labels. The gradients are computed on the way forward, while a chunk's
 * logits are at hand, so the weight of the loss in the total has to be known by then.
 *
 * @param x [T, D]; @param weight [V, D]; @param labels [T], below 0 for none.
 * @returns [T] -log p(label) in nats, 0 where there is no label.
 * @throws ShapeError for a label outside the vocabulary.
 */
export function linearCrossEntropy(
  graph: Graph,
  x: Variable,
  weight: Weight,
  labels: Tensor<"i32">,
  { scale, chunk: wanted }: CrossEntropyOptions,
): Tensor {
  const { kernels } = graph;
  const [tokens, width, vocabulary] = [x.value.dim(0), x.value.dim(1), weightShape(weight)[0] as number];
  const outside = labels.data.findIndex((label) => label >= vocabulary);
  if (outside >= 0) {
    throw new ShapeError(`cross-entropy: label ${labels.data[outside]} at ${outside} is outside 0..${vocabulary - 1}`);
  }
  const losses = graph.take([tokens]);
  const backwards = graph.recording && scale !== 0;
  const dx = backwards && x.trainable ? graph.take(x.value.shape) : undefined;
  const dw = backwards && !isStored(weight) ? graph.target(weight) : undefined;
  const chunk = Math.max(1, Math.min(tokens, wanted ?? Math.floor(CHUNK_ELEMENTS / vocabulary)));
  const logits = graph.take([chunk, vocabulary]);
  for (let start = 0; start < tokens; start += chunk) {
    const count = Math.min(chunk, tokens - start);
    const rows = x.value.slice(start * width, [count, width]).pointer;
    const w = isStored(weight) ? 0 : weight.value.pointer;
    if (isStored(weight)) multiplyStored(graph, weight, rows, logits.pointer, count);
    else kernels.gemm(0, 1, count, vocabulary, width, rows, width, w, width, logits.pointer, vocabulary, 0);
    const target = labels.slice(start, [count]).pointer;
    const loss = losses.slice(start, [count]).pointer;
    kernels.crossEntropy(logits.pointer, target, loss, count, vocabulary, backwards ? scale : 0);
    if (dx) {
      const drows = dx.slice(start * width, [count, width]).pointer;
      kernels.gemm(0, 0, count, width, vocabulary, logits.pointer, vocabulary, w, width, drows, width, 0);
    }
    if (dw) {
      const add = dw.accumulate || start > 0 ? 1 : 0;
      kernels.gemm(1, 0, vocabulary, width, count, logits.pointer, vocabulary, rows, width, dw.pointer, width, add);
    }
  }
  graph.release(logits);
  if (dx) graph.give(x, dx);
  return losses;
}
