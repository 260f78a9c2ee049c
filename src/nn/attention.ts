/** The attention part of a layer: projections, QK-norm, rotary positions, attention, output. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { attention, type CachedKeys, cachedAttention, type RotaryTable, rope } from "../autograd/ops/attention.ts";
import { clamp, linear } from "../autograd/ops/basic.ts";
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
  /** Sequences; all of them have the same number of tokens in a pass. */
  readonly batch: number;
  /** [T] position of each token in its sequence. */
  readonly positions: Tensor<"i32">;
  /** [T] first position that a token sees, where that is not 0: left padding, documents. */
  readonly kvStart?: Tensor<"i32"> | undefined;
  readonly rotary: RotaryTable;
}

/** A layer's keys and values from earlier passes; `store` adds this pass's and returns how many positions there are. */
export interface LayerCache extends CachedKeys {
  store(k: Tensor, v: Tensor): number;
}

/**
 * Self-attention (spec of the released model: QK-norm before the split into heads and before the rotation). v is bounded
 * like q and k, whose bound is before or after their norm.
 * @param x [T, D], normalised; @param cache present when generating.
 * @returns [T, D], what is added to the residual stream.
 */
export function selfAttention(
  graph: Graph,
  x: Variable,
  parameters: AttentionParameters,
  config: ModelConfig,
  layout: SequenceLayout,
  cache?: LayerCache,
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
    cache === undefined
      ? attention(graph, q, k, v, options)
      : cachedAttention(graph, q, cache, cache.store(k.value, v.value), options);
  graph.discard(q, k, v);
  const out = linear(graph, mixed, parameters.o);
  graph.discard(mixed);
  return out;
}
