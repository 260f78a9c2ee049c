/** Embedding, linear, sum and bound: each a forward kernel and its backward. Letters: T tokens, D width, N outputs. */
import { ShapeError } from "../../errors.ts";
import { formatShape, type Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";
import { isStored, storedEmbedding, storedLinear, type Weight, weightShape } from "./stored.ts";

/**
 * Rows of a table: out[t] = table[ids[t]].
 * @param table [V, D], in memory or as a file stores it.
 * @param ids [T], each below V (checked here: kernels do not).
 * @returns [T, D].
 * @throws ShapeError naming the first id outside the table.
 */
export function embedding(graph: Graph, table: Weight, ids: Tensor<"i32">): Variable {
  const [vocabulary, width] = weightShape(table) as [number, number];
  const { kernels } = graph;
  const outside = ids.data.findIndex((id) => id < 0 || id >= vocabulary);
  if (outside >= 0) {
    throw new ShapeError(`embedding: id ${ids.data[outside]} at position ${outside} is outside 0..${vocabulary - 1}`);
  }
  if (isStored(table)) return storedEmbedding(graph, table, ids);
  const out = graph.take([ids.size, width]);
  kernels.embeddingForward(table.value.pointer, ids.pointer, out.pointer, ids.size, width);
  return graph.node(out, [table], [], (dout) => {
    const dtable = graph.target(table);
    if (dtable) {
      if (!dtable.accumulate) kernels.fill(dtable.pointer, table.value.size, 0);
      kernels.embeddingBackward(dtable.pointer, ids.pointer, dout.pointer, ids.size, width);
    }
    graph.release(dout);
  });
}

/**
 * y = x W^T, no bias.
 * @param x [T, D].
 * @param weight [N, D], in memory or as a file stores it.
 * @param products "f32": in f32 on a backend too that rounds the inputs of its products.
 * @returns [T, N].
 */
export function linear(graph: Graph, x: Variable, weight: Weight, products: "backend" | "f32" = "backend"): Variable {
  const [tokens, width] = [x.value.dim(0), x.value.dim(1)];
  const [outputs, columns] = weightShape(weight) as [number, number];
  if (columns !== width) {
    throw new ShapeError(`linear: x is ${formatShape(x.value.shape)}, weight ${formatShape(weightShape(weight))}`);
  }
  if (isStored(weight)) return storedLinear(graph, x, weight);
  const gemm = products === "f32" ? graph.kernels.gemmF32 : graph.kernels.gemm;
  const y = graph.take([tokens, outputs]);
  const [xAt, wAt] = [x.value.pointer, weight.value.pointer];
  gemm(0, 1, tokens, outputs, width, xAt, width, wAt, width, y.pointer, outputs, 0);
  return graph.node(y, [x, weight], [], (dy) => {
    const dyAt = dy.pointer;
    const dx = graph.target(x);
    if (dx) gemm(0, 0, tokens, width, outputs, dyAt, outputs, wAt, width, dx.pointer, width, dx.accumulate);
    const dw = graph.target(weight);
    if (dw) gemm(1, 0, outputs, width, tokens, dyAt, outputs, xAt, width, dw.pointer, width, dw.accumulate);
    graph.release(dy);
  });
}

/** a + b, of equal shapes: the residual connection. */
export function add(graph: Graph, a: Variable, b: Variable): Variable {
  const { kernels } = graph;
  const out = graph.take(a.value.shape);
  kernels.add(a.value.pointer, b.value.pointer, out.pointer, out.size);
  return graph.node(out, [a, b], [], (dout) => {
    const db = graph.target(b);
    if (db && b.grad) {
      if (db.accumulate) kernels.add(db.pointer, dout.pointer, db.pointer, dout.size);
      else b.grad.data.set(dout.data);
    }
    graph.give(a, dout);
  });
}

/** Bounds every element to [-limit, limit]; no gradient flows through a bounded element. @param x [T, N]. */
export function clamp(graph: Graph, x: Variable, limit: number): Variable {
  const { kernels } = graph;
  const [rows, cols] = [x.value.dim(0), x.value.dim(1)];
  const y = graph.take(x.value.shape);
  kernels.clampForward(x.value.pointer, cols, y.pointer, cols, rows, cols, limit);
  return graph.node(y, [x], [], (dy) => {
    kernels.clampBackward(x.value.pointer, cols, dy.pointer, cols, dy.pointer, cols, rows, cols, limit);
    graph.give(x, dy);
  });
}

/**
 * RMSNorm(x) = w * x / sqrt(mean(x^2) + eps), over each group of W columns: a whole row, or one head of it.
 * @param x [T, G * W]; @param weight [W].
 */
export function rmsNorm(graph: Graph, x: Variable, weight: Variable, epsilon: number): Variable {
  const width = weight.value.size;
  if (x.value.dim(1) % width !== 0) {
    throw new ShapeError(`rmsNorm: x has ${x.value.dim(1)} columns, weight ${width} elements`);
  }
  const rows = x.value.size / width;
  const { kernels } = graph;
  const y = graph.take(x.value.shape);
  const rstd = graph.take([rows]);
  kernels.rmsnormForward(
    x.value.pointer,
    width,
    weight.value.pointer,
    y.pointer,
    width,
    rstd.pointer,
    rows,
    width,
    epsilon,
  );
  return graph.node(y, [x, weight], [rstd], (dy) => {
    const dw = graph.target(weight);
    if (dw && !dw.accumulate) kernels.fill(dw.pointer, width, 0);
    const accumulate = x.grad === undefined ? 0 : 1;
    const dx = accumulate ? (x.grad as Tensor) : dy;
    kernels.rmsnormBackward(
      x.value.pointer,
      width,
      weight.value.pointer,
      rstd.pointer,
      dy.pointer,
      width,
      dx.pointer,
      width,
      dw?.pointer ?? 0,
      rows,
      width,
      accumulate,
    );
    if (accumulate) graph.release(dy);
    else graph.give(x, dy);
  });
}

/**
 * SwiGLU's activation: silu(gate) * up.
 * @param gateUp [T, 2F], gate first.
 * @returns [T, F].
 */
export function swiglu(graph: Graph, gateUp: Variable): Variable {
  const { kernels } = graph;
  const [rows, inner] = [gateUp.value.dim(0), gateUp.value.dim(1) / 2];
  const y = graph.take([rows, inner]);
  kernels.swigluForward(gateUp.value.pointer, y.pointer, rows, inner);
  return graph.node(y, [gateUp], [], (dy) => {
    const dgateUp = graph.take(gateUp.value.shape);
    kernels.swigluBackward(gateUp.value.pointer, dy.pointer, dgateUp.pointer, rows, inner);
    graph.release(dy);
    graph.give(gateUp, dgateUp);
  });
}
