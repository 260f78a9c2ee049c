/** The attention part of a layer: projections, QK-norm, rotary positions, attention, output. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { attention, type RotaryTable, rope } from "../autograd/ops/attention.ts";
import { clamp, linear } from "../autograd/ops/basic.ts";
import { type CachedLayer, type CachedPass, pagedAttention } from "../autograd/ops/pagedAttention.ts";
import type { Weight } from "../autograd/ops/stored.ts";
import type { ModelConfig } from "../config/model.ts";
import type { Tensor } from "../tensor/tensor.ts";
import { type Norm, normalise } from "./norm.ts";

/** P stands for a matrix and F for a parameter that is always f32 in memory. */
export interface AttentionParameters<P = Weight, F = Variable> {
  /** [D, D]; k and v [KV * C, D]. */
  readonly q: P;
  readonly k: P;
  readonly v: P;
  readonly o: P;
  /** Over all heads together, as released, or over each head; absent: no QK-norm. */
  readonly qNorm?: Norm<F> | undefined;
  readonly kNorm?: Norm<F> | undefined;
}

/** Where the tokens of a pass stand. */
export interface SequenceLayout {
  /** Sequences of equal length; 1 for a pass over a cache, which has its own account of them. */
  readonly batch: number;
  /** [T] position of each token in its sequence. */
  readonly positions: Tensor<"i32">;
  /** [T] first position that a token sees, where that is not 0: left padding, documents. Not with a cache. */
  readonly kvStart?: Tensor<"i32"> | undefined;
  readonly rotary: RotaryTable;
  /** Where a pass over a cache puts its keys and values, and what it sees. */
  readonly cached?: CachedPass | undefined;
}

/**
 * Self-attention (spec of the released model: QK-norm before the split into heads and before the rotation). v is bounded
 * like q and k, whose bound is before or after their norm.
 * @param x [T, D], normalised; @param cache the layer's, where the layout is of a pass over one.
 * @returns [T, D], what is added to the residual stream.
 */
export function selfAttention(
  graph: Graph,
  x: Variable,
  parameters: AttentionParameters,
  config: ModelConfig,
  layout: SequenceLayout,
  cache?: CachedLayer,
): Variable {
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, clipQkv, clipQkvPlacement } = config;
  /** Applies operations one after another; nothing else reads what is in between. */
  const through = (value: Variable, steps: readonly ((value: Variable) => Variable)[]) =>
    steps.reduce((current, step) => {
      const next = step(current);
      graph.discard(current);
      return next;
    }, value);
  const clip = clipQkv === null ? [] : [(value: Variable) => clamp(graph, value, clipQkv)];
  const [before, after] = clipQkvPlacement === "before_norm" ? [clip, []] : [[], clip];
  const rotated = (weight: Weight, norm: Norm | undefined, count: number) => {
    const norms = norm === undefined ? [] : [(value: Variable) => normalise(graph, value, norm)];
    const prepared = through(linear(graph, x, weight), [...before, ...norms, ...after]);
    return rope(graph, prepared, layout.positions, layout.rotary, count);
  };
  const q = rotated(parameters.q, parameters.qNorm, heads);
  const k = rotated(parameters.k, parameters.kNorm, kvHeads);
  const v = through(linear(graph, x, parameters.v), clip);
  const options = { batch: layout.batch, heads, kvHeads, kvStart: layout.kvStart };
  const mixed =
    cache === undefined || layout.cached === undefined
      ? attention(graph, q, k, v, options)
      : pagedAttention(graph, q, k, v, cache, layout.cached, options);
  graph.discard(q, k, v);
  const out = linear(graph, mixed, parameters.o);
  graph.discard(mixed);
  return out;
}
