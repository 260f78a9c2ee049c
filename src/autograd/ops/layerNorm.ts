/** LayerNorm: a forward kernel and its backward. Letters: T tokens, G groups of a row, W width of a group. */
import { ShapeError } from "../../errors.ts";
import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";

export interface LayerNormOptions {
  /** W: channels that are normalised together. */
  readonly width: number;
  /** [W]; absent: ones. */
  readonly weight?: Variable | undefined;
  /** [W]; absent: zeros. */
  readonly bias?: Variable | undefined;
  readonly epsilon: number;
}

/**
 * LayerNorm(x) = weight * (x - mean) / sqrt(variance + epsilon) + bias over each group of W channels (Ba et al., arXiv
 * 1607.06450).
 * @param x [T, G * W].
 * @throws ShapeError for a row that is not whole groups, and for a weight or bias of another size.
 */
export function layerNorm(graph: Graph, x: Variable, { width, weight, bias, epsilon }: LayerNormOptions): Variable {
  if (x.value.dim(1) % width !== 0) {
    throw new ShapeError(`layerNorm: x has ${x.value.dim(1)} columns, not groups of ${width}`);
  }
  for (const [name, parameter] of Object.entries({ weight, bias })) {
    if (parameter === undefined || parameter.value.size === width) continue;
    throw new ShapeError(`layerNorm: groups of ${width} columns, ${name} has ${parameter.value.size} elements`);
  }
  const { kernels } = graph;
  const rows = x.value.size / width;
  const y = graph.take(x.value.shape);
  const [mean, rstd] = [graph.take([rows]), graph.take([rows])];
  kernels.layernormForward(
    x.value.pointer,
    width,
    weight?.value.pointer ?? 0,
    bias?.value.pointer ?? 0,
    y.pointer,
    width,
    mean.pointer,
    rstd.pointer,
    rows,
    width,
    epsilon,
  );
  const parameters = [weight, bias].filter((parameter) => parameter !== undefined);
  return graph.node(y, [x, ...parameters], [mean, rstd], (dy) => {
    const [dweight, dbias] = [weight, bias].map((parameter) => {
      const target = parameter && graph.target(parameter);
      if (target && !target.accumulate) kernels.fill(target.pointer, width, 0);
      return target?.pointer ?? 0;
    }) as [number, number];
    const accumulate = x.grad === undefined ? 0 : 1;
    const dx = accumulate ? (x.grad as Tensor) : dy;
    kernels.layernormBackward(
      x.value.pointer,
      width,
      weight?.value.pointer ?? 0,
      mean.pointer,
      rstd.pointer,
      dy.pointer,
      width,
      dx.pointer,
      width,
      dweight,
      dbias,
      rows,
      width,
      accumulate,
    );
    if (accumulate) graph.release(dy);
    else graph.give(x, dy);
  });
}
