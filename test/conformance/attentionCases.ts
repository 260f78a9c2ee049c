/** Cases of attention, forward and backward. */
import { Draw, expected, input, type KernelCase, kernelCase, overwritten, SUM, type Tolerance } from "./harness.ts";

const draw = new Draw(14);

export interface AttentionSizes {
  readonly batch?: number;
  readonly queries: number;
  /** As many as queries unless given. */
  readonly keys?: number;
  /** Rows of k and v beyond `keys` in each sequence. */
  readonly spareKeys?: number;
  readonly heads?: number;
  readonly kvHeads?: number;
  readonly channels?: number;
  /** Queries see their own document only. */
  readonly documents?: boolean;
  /** Every fifth query sees nothing: its out is 0 and its lse minus infinity. */
  readonly blindQueries?: boolean;
  readonly withoutLse?: boolean;
  /** Bound of the entries of q and k. */
  readonly spread?: number;
}

/** First visible key of each query: documents of 1 to 40 tokens follow each other. */
function documentStarts(batch: number, queries: number, keys: number, blind: boolean): Int32Array {
  const starts = new Int32Array(batch * queries);
  for (let b = 0; b < batch; b++) {
    let start = 0;
    let next = draw.int(1, 40);
    for (let position = 0; position < keys; position++) {
      if (position === next) {
        start = position;
        next = position + draw.int(1, 40);
      }
      const query = position - (keys - queries);
      if (query >= 0) starts[b * queries + query] = blind && query % 5 === 3 ? position + 1 : start;
    }
  }
  return starts;
}

/**
 * Scores are sums of q * k of up to spread^2 * sqrt(channels) in absolute value, and an error of theirs is one of lse and
 * a relative one of the probabilities. Where scores are very large one probability is 1 and the room is not needed.
 */
function tolerances(spread: number, channels: number): { readonly ofOut: Tolerance; readonly ofLse: Tolerance } {
  const scoreError = 1e-6 + 5e-7 * spread ** 2 * Math.sqrt(channels);
  return {
    ofOut: { ofLargest: 1e-5, absolute: Math.min(scoreError, 1e-4) },
    ofLse: { relative: 1e-6, absolute: scoreError },
  };
}

/** Rows of the cache that hold no key yet may hold anything. */
function withSpareRows(values: Float32Array, keys: number, kvStride: number, rowLength: number): Float32Array {
  return values.map((value, i) => (Math.floor(i / rowLength) % kvStride < keys ? value : Number.NaN));
}

export function attentionForwardCase(sizes: AttentionSizes): KernelCase {
  const { batch = 2, queries, keys = queries, spareKeys = 0, heads = 2, kvHeads = 1, channels = 16 } = sizes;
  const { documents = false, blindQueries = false, withoutLse = false, spread = 2 } = sizes;
  const kvStride = keys + spareKeys;
  const ofQ = { rows: batch * queries, cols: heads * channels, padding: 3 };
  const ofK = { rows: batch * kvStride, cols: kvHeads * channels, padding: 5 };
  const ofV = { ...ofK, padding: 1 };
  const { ofOut, ofLse } = tolerances(spread, channels);
  const operands = {
    q: input(draw.matrix(ofQ, spread)),
    k: input(withSpareRows(draw.matrix(ofK, spread), keys, kvStride, ofK.cols + 5)),
    v: input(withSpareRows(draw.matrix(ofV), keys, kvStride, ofV.cols + 1)),
    out: overwritten({ ...ofQ, padding: 2 }, ofOut),
    lse: withoutLse ? null : overwritten({ rows: batch * heads, cols: queries }, ofLse),
    kvStart: documents ? input(documentStarts(batch, queries, keys, blindQueries)) : null,
  };
  return kernelCase("attentionForward", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.attentionForward(
      at.q,
      ofQ.cols + 3,
      at.k,
      ofK.cols + 5,
      at.v,
      ofV.cols + 1,
      at.out,
      ofQ.cols + 2,
      at.lse,
      at.kvStart,
      batch,
      queries,
      keys,
      kvStride,
      heads,
      kvHeads,
      channels,
      1 / Math.sqrt(channels),
    ),
  );
}

/** Takes out and lse from the reference's forward pass of the same sizes. */
export function attentionBackwardCase(sizes: AttentionSizes): KernelCase {
  const { batch = 2, queries: length, heads = 2, kvHeads = 1, channels = 16 } = sizes;
  const forward = attentionForwardCase(sizes);
  const { out, lse } = expected(forward).operands;
  const { q, k, v, kvStart } = forward.operands;
  const width = heads * channels;
  const kvWidth = kvHeads * channels;
  const rows = batch * length;
  const operands = {
    q: q!,
    k: k!,
    v: v!,
    out: input(out!),
    lse: input(lse!),
    kvStart: kvStart ?? null,
    dout: input(draw.matrix({ rows, cols: width, padding: 4 })),
    dq: overwritten({ rows, cols: width, padding: 6 }, SUM),
    dk: overwritten({ rows, cols: kvWidth, padding: 7 }, SUM),
    dv: overwritten({ rows, cols: kvWidth, padding: 8 }, SUM),
  };
  return kernelCase("attentionBackward", JSON.stringify(sizes), operands, (kernels, at) =>
    kernels.attentionBackward(
      at.q,
      width + 3,
      at.k,
      kvWidth + 5,
      at.v,
      kvWidth + 1,
      at.out,
      width + 2,
      at.lse,
      at.kvStart,
      at.dout,
      width + 4,
      at.dq,
      width + 6,
      at.dk,
      kvWidth + 7,
      at.dv,
      kvWidth + 8,
      batch,
      length,
      heads,
      kvHeads,
      channels,
      1 / Math.sqrt(channels),
    ),
  );
}

const LENGTHS = [1, 2, 5, 16, 17, 31, 33, 63, 64, 65, 96, 97, 127, 128, 129, 192, 193];
const CHANNELS = [2, 8, 16, 32, 64, 128];

const square: readonly AttentionSizes[] = [
  ...LENGTHS.map((queries) => ({ queries })),
  ...LENGTHS.map((queries) => ({ queries, documents: true, batch: 3 })),
  ...CHANNELS.map((channels) => ({ queries: 35, channels, heads: 4, kvHeads: 2 })),
  { queries: 7, channels: 6, heads: 3, kvHeads: 3 },
  { queries: 33, heads: 6, kvHeads: 1 },
  { queries: 33, heads: 6, kvHeads: 6 },
  { queries: 150, documents: true, blindQueries: true },
  { queries: 0 },
  { queries: 5, batch: 0 },
];

export const attentionCases: readonly KernelCase[] = [
  ...square.map(attentionForwardCase),
  ...[1, 2, 3, 17, 64].flatMap((queries) =>
    [64, 70, 129, 300].map((keys) =>
      attentionForwardCase({ queries, keys, spareKeys: 3, withoutLse: keys === 70, documents: keys === 129 }),
    ),
  ),
  ...CHANNELS.map((channels) => attentionForwardCase({ queries: 1, keys: 77, channels, heads: 4, kvHeads: 2 })),
  attentionForwardCase({ queries: 9, channels: 8, spread: 1e15 }),
  attentionForwardCase({ queries: 20, channels: 8, spread: 60 }),
  ...square.map(attentionBackwardCase),
  // More queries of a head than are packed at a time, with a border in the last tile.
  attentionBackwardCase({ batch: 1, queries: 530, channels: 128, documents: true }),
  attentionBackwardCase({ batch: 1, queries: 523, channels: 70, kvHeads: 2 }),
];
