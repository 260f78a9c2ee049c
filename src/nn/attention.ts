/** The attention part of a layer: projections, QK-norm, rotary positions, attention, output. */
import type { Graph, Variable } from "../autograd/graph.ts";
import { attention, type CachedKeys, cachedAttention, type RotaryTable, rope } from "../autograd/ops/attention.ts";
import { clamp, linear, rmsNorm } from "../autograd/ops/basic.ts";
import type { ModelConfig } from "../config/model.ts";
import type { Tensor } from "../tensor/tensor.ts";

export interface AttentionParameters {
  /** [D, D]; k and v [KV * C, D]. */
  readonly q: Variable;
  readonly k: Variable;
  readonly v: Variable;
  readonly o: Variable;
  /** [D] and [KV * C]: one norm over all heads together, not one a head. */
  readonly qNorm: Variable;
  readonly kNorm: Variable;
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
 * Self-attention (spec of the released model: QK-norm before the split into heads and before the rotation).
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
  const { numAttentionHeads: heads, numKeyValueHeads: kvHeads, rmsNormEps, clipQkv } = config;
  const bounded = (value: Variable) => {
    if (clipQkv === null) return value;
    const clipped = clamp(graph, value, clipQkv);
    graph.discard(value);
    return clipped;
  };
  const rotated = (weight: Variable, norm: Variable, count: number) => {
    const projected = linear(graph, x, weight);
    const normalised = rmsNorm(graph, projected, norm, rmsNormEps);
    graph.discard(projected);
    return rope(graph, bounded(normalised), layout.positions, layout.rotary, count);
  };
  const q = rotated(parameters.q, parameters.qNorm, heads);
  const k = rotated(parameters.k, parameters.kNorm, kvHeads);
  const v = bounded(linear(graph, x, parameters.v));
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
