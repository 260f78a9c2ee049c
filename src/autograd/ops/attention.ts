/** Rotary positions and softmax attention. Letters: T = batch * length tokens, H heads, C channels of a head. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";

/** Cosines and sines of all positions a model may use, each [positions, C / 2]. */
export interface RotaryTable {
  readonly cosine: Tensor;
  readonly sine: Tensor;
}

/** How far each pair of channels turns from one position to the next, and what cosines and sines are multiplied by. */
export interface RotaryFrequencies {
  /** [C / 2] radians, as f32. */
  readonly frequencies: Float32Array;
  readonly amplitude: number;
}

/**
 * The frequencies that models are trained with, theta^(-2j / C). They are rounded to f32 step by step, as transformers
 * computes them, so that far positions agree with the released model.
 * @param half C / 2.
 */
export function rotaryFrequencies(theta: number, half: number): RotaryFrequencies {
  const frequencies = Float32Array.from({ length: half }, (_, j) => 1 / Math.fround(theta ** Math.fround(j / half)));
  return { frequencies, amplitude: 1 };
}

/** Fills a rotary table. Angles are rounded to f32, as transformers computes them. */
export function fillRotaryTable({ cosine, sine }: RotaryTable, { frequencies, amplitude }: RotaryFrequencies): void {
  const [positions, half] = [cosine.dim(0), cosine.dim(1)];
  const [cos, sin] = [cosine.data, sine.data];
  const factor = Math.fround(amplitude);
  for (const [j, frequency] of frequencies.entries()) {
    for (let position = 0; position < positions; position++) {
      const angle = Math.fround(position * frequency);
      cos[position * half + j] = Math.fround(Math.cos(angle)) * factor;
      sin[position * half + j] = Math.fround(Math.sin(angle)) * factor;
    }
  }
}

/**
 * Rotates the heads of x by their tokens' positions (RoFormer, half-split layout). Works in place: x must not be used
 * afterwards, which holds for the results of `linear` and `rmsNorm`.
 * @param x [T, H * C]; @param positions [T].
 */
export function rope(
  graph: Graph,
  x: Variable,
  positions: Tensor<"i32">,
  { cosine, sine }: RotaryTable,
  heads: number,
): Variable {
  const { kernels } = graph;
  const [tokens, width] = [x.value.dim(0), x.value.dim(1)];
  const channels = width / heads;
  const rotate = (tensor: Tensor, inverse: 0 | 1) =>
    kernels.rope(
      tensor.pointer,
      width,
      positions.pointer,
      cosine.pointer,
      sine.pointer,
      tokens,
      heads,
      channels,
      inverse,
    );
  rotate(x.value, 0);
  return graph.node(x.value, [x], [], (dy) => {
    rotate(dy, 1);
    graph.give(x, dy);
  });
}

export interface AttentionOptions {
  readonly batch: number;
  readonly heads: number;
  readonly kvHeads: number;
  /** [T]: index of the first key in its own sequence that a query sees; absent: 0. */
  readonly kvStart?: Tensor<"i32"> | undefined;
}

/** Runs the forward kernel of sequences with themselves. @param lse [batch, heads, length]. */
function attend(
  graph: Graph,
  [q, k, v]: readonly [Tensor, Tensor, Tensor],
  { batch, heads, kvHeads, kvStart }: AttentionOptions,
  lse: Tensor,
): Tensor {
  const [width, kvWidth, length] = [q.dim(1), k.dim(1), q.dim(0) / batch];
  const channels = width / heads;
  const out = graph.take(q.shape);
  graph.kernels.attentionForward(
    q.pointer,
    width,
    k.pointer,
    kvWidth,
    v.pointer,
    kvWidth,
    out.pointer,
    width,
    lse.pointer,
    kvStart?.pointer ?? 0,
    batch,
    length,
    length,
    length,
    heads,
    kvHeads,
    channels,
    1 / Math.sqrt(channels),
  );
  return out;
}

/**
 * Causal attention of sequences with themselves, softmax(q k^T / sqrt(C)) v; query heads share key/value heads in
 * groups. Memory is linear in the length.
 * @param q [T, H * C]; @param k [T, KV * C]; @param v [T, KV * C].
 * @returns [T, H * C].
 */
export function attention(graph: Graph, q: Variable, k: Variable, v: Variable, options: AttentionOptions): Variable {
  const { kernels } = graph;
  const { batch, heads, kvHeads, kvStart } = options;
  const [tokens, width, kvWidth] = [q.value.dim(0), q.value.dim(1), k.value.dim(1)];
  const [length, channels] = [tokens / batch, width / heads];
  const lse = graph.take([batch, heads, length]);
  const out = attend(graph, [q.value, k.value, v.value], options, lse);
  return graph.node(out, [q, k, v], [lse], (dout) => {
    const [dq, dk, dv] = [graph.take(q.value.shape), graph.take(k.value.shape), graph.take(v.value.shape)];
    kernels.attentionBackward(
      q.value.pointer,
      width,
      k.value.pointer,
      kvWidth,
      v.value.pointer,
      kvWidth,
      out.pointer,
      width,
      lse.pointer,
      kvStart?.pointer ?? 0,
      dout.pointer,
      width,
      dq.pointer,
      width,
      dk.pointer,
      kvWidth,
      dv.pointer,
      kvWidth,
      batch,
      length,
      heads,
      kvHeads,
      channels,
      1 / Math.sqrt(channels),
    );
    graph.release(dout);
    graph.give(q, dq);
    graph.give(k, dk);
    graph.give(v, dv);
  });
}
