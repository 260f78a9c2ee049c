/** Attention over a paged cache of keys and values, without a way back. Letters as in attention.ts; S sequences. */
import type { Tensor } from "../../tensor/tensor.ts";
import type { Graph, Variable } from "../graph.ts";

/** Tokens of a page, as kernels/kernels.h has it. */
export const PAGE_TOKENS = 32;

/** The pages of one layer: keys and values of every sequence that is cached. */
export interface CachedLayer {
  /** Address of page 0. */
  readonly pages: number;
  /** GGML's number of the type that values are stored in: 0 F32, 1 F16, 8 Q8_0. */
  readonly typeId: number;
}

/** Where the tokens of a pass go in the cache, and what each sequence reads of it: the same in every layer. */
export interface CachedPass {
  /** [T]: page * PAGE_TOKENS + token of the page. */
  readonly slots: Tensor<"i32">;
  /** Pages of all sequences, one after another. */
  readonly pageTable: Tensor<"i32">;
  /** [S, 4]: first token, number of tokens, positions together with them, first entry in the page table. */
  readonly sequences: Tensor<"i32">;
  /** Positions of all sequences together, those of this pass included. */
  readonly keys: number;
}

export interface PagedAttentionOptions {
  readonly heads: number;
  readonly kvHeads: number;
}

/**
 * Stores k and v in their places, then lets each query see its sequence's keys up to its own position.
 * @param q [T, H * C]; @param k [T, KV * C]; @param v [T, KV * C].
 * @returns [T, H * C].
 */
export function pagedAttention(
  graph: Graph,
  q: Variable,
  k: Variable,
  v: Variable,
  layer: CachedLayer,
  pass: CachedPass,
  { heads, kvHeads }: PagedAttentionOptions,
): Variable {
  const { kernels } = graph;
  const [tokens, width, kvWidth] = [q.value.dim(0), q.value.dim(1), k.value.dim(1)];
  const channels = width / heads;
  const [kAt, vAt, slotsAt] = [k.value.pointer, v.value.pointer, pass.slots.pointer];
  kernels.cacheStore(kAt, kvWidth, vAt, kvWidth, layer.pages, slotsAt, tokens, kvHeads, channels, layer.typeId);
  const out = graph.take(q.value.shape);
  kernels.pagedAttention(
    q.value.pointer,
    width,
    layer.pages,
    pass.pageTable.pointer,
    pass.sequences.pointer,
    out.pointer,
    width,
    pass.sequences.dim(0),
    tokens,
    pass.keys,
    heads,
    kvHeads,
    channels,
    layer.typeId,
    1 / Math.sqrt(channels),
  );
  return graph.constant(out);
}
