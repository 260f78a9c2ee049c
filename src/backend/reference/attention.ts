/**
 * Softmax attention, one query at a time: out = sum over visible keys j of p_j v_j, p = softmax(scale * q . k_j).
 * The backward pass is the one of FlashAttention (arXiv 2205.14135): probabilities come again from the kept lse.
 */
import type { Kernels, Pointer } from "../kernels.ts";
import { type Floats, floatsOrNull, type Memory } from "./heap.ts";
import { logSumExp } from "./logSumExp.ts";

interface Sizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly kvStride: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly channels: number;
}

/** One query of one head, and the keys it sees. */
interface Query {
  /** Row of q and out, and the head's first column in it. */
  readonly row: number;
  readonly column: number;
  /** Rows of k and v of the first and the last visible key, and the kv head's first column. */
  readonly firstKey: number;
  readonly lastKey: number;
  readonly kvColumn: number;
  /** Place in lse. */
  readonly index: number;
}

/** All queries of all heads and sequences. */
function* queriesOf(memory: Memory, sizes: Sizes, kvStartAt: Pointer): Generator<Query> {
  const { batch, queries, keys, kvStride, heads, kvHeads, channels } = sizes;
  const kvStart = kvStartAt === 0 ? null : memory.i32(kvStartAt);
  for (let b = 0; b < batch; b++) {
    for (let h = 0; h < heads; h++) {
      for (let i = 0; i < queries; i++) {
        const row = b * queries + i;
        yield {
          row,
          column: h * channels,
          firstKey: b * kvStride + (kvStart === null ? 0 : kvStart[row]!),
          lastKey: b * kvStride + keys - queries + i,
          kvColumn: Math.floor(h / (heads / kvHeads)) * channels,
          index: (b * heads + h) * queries + i,
        };
      }
    }
  }
}

/** Dot product of `count` elements of a from i on and of b from j on. */
function dot(a: Floats, i: number, b: Floats, j: number, count: number): number {
  let sum = 0;
  for (let c = 0; c < count; c++) sum += a[i + c]! * b[j + c]!;
  return sum;
}

/** One query's softmax over `count` keys: the log of its sum, and the mean of the values [C] that it weighs. */
export function attendQuery(
  { q, at, channels, scale }: { q: Floats; at: number; channels: number; scale: number },
  { k, kAt, ldk, v, vAt, ldv }: { k: Floats; kAt: number; ldk: number; v: Floats; vAt: number; ldv: number },
  count: number,
): { readonly logSum: number; readonly mixed: Float64Array } {
  const scores: number[] = [];
  for (let key = 0; key < count; key++) scores.push(scale * dot(q, at, k, kAt + key * ldk, channels));
  const logSum = logSumExp(scores, 0, scores.length);
  const probs = scores.map((score) => Math.exp(score - logSum));
  const mixed = new Float64Array(channels);
  for (let key = 0; key < count; key++) {
    for (let c = 0; c < channels; c++) mixed[c]! += probs[key]! * v[vAt + key * ldv + c]!;
  }
  return { logSum, mixed };
}

export function attentionForward(memory: Memory): Kernels["attentionForward"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    qAt, ldq, kAt, ldk, vAt, ldv, outAt, ldo, lseAt, kvStartAt,
    batch, queries, keys, kvStride, heads, kvHeads, channels, scale,
  ) => {
    const q = memory.f32(qAt);
    const k = memory.f32(kAt);
    const v = memory.f32(vAt);
    const out = memory.f32(outAt);
    const lse = floatsOrNull(memory, lseAt);
    scale = Math.fround(scale);
    const sizes = { batch, queries, keys, kvStride, heads, kvHeads, channels };
    for (const { row, column, firstKey, lastKey, kvColumn, index } of queriesOf(memory, sizes, kvStartAt)) {
      const query = { q, at: row * ldq + column, channels, scale };
      const keys = { k, kAt: firstKey * ldk + kvColumn, ldk, v, vAt: firstKey * ldv + kvColumn, ldv };
      const { logSum, mixed } = attendQuery(query, keys, lastKey - firstKey + 1);
      if (lse !== null) lse[index] = logSum;
      for (let c = 0; c < channels; c++) out[row * ldo + column + c] = mixed[c]!;
    }
  };
}

/** ds_j = p_j (dout . v_j - dout . out); dq = scale sum ds_j k_j; dk_j = scale sum ds_j q; dv_j = sum p_j dout. */
export function attentionBackward(memory: Memory): Kernels["attentionBackward"] {
  // biome-ignore format: the arguments in the groups of kernels.h
  return (
    qAt, ldq, kAt, ldk, vAt, ldv, outAt, ldo, lseAt, kvStartAt,
    doutAt, lddo, dqAt, lddq, dkAt, lddk, dvAt, lddv,
    batch, length, heads, kvHeads, channels, scale,
  ) => {
    const q = memory.f32(qAt);
    const k = memory.f32(kAt);
    const v = memory.f32(vAt);
    const out = memory.f32(outAt);
    const lse = memory.f32(lseAt);
    const dout = memory.f32(doutAt);
    scale = Math.fround(scale);
    const width = heads * channels;
    const kvWidth = kvHeads * channels;
    const dq = new Float64Array(batch * length * width);
    const dk = new Float64Array(batch * length * kvWidth);
    const dv = new Float64Array(batch * length * kvWidth);
    const sizes = { batch, queries: length, keys: length, kvStride: length, heads, kvHeads, channels };
    for (const { row, column, firstKey, lastKey, kvColumn, index } of queriesOf(memory, sizes, kvStartAt)) {
      const delta = dot(dout, row * lddo + column, out, row * ldo + column, channels);
      for (let key = firstKey; key <= lastKey; key++) {
        const p = Math.exp(scale * dot(q, row * ldq + column, k, key * ldk + kvColumn, channels) - lse[index]!);
        const ds = p * (dot(dout, row * lddo + column, v, key * ldv + kvColumn, channels) - delta);
        for (let c = 0; c < channels; c++) {
          dq[row * width + column + c]! += scale * ds * k[key * ldk + kvColumn + c]!;
          dk[key * kvWidth + kvColumn + c]! += scale * ds * q[row * ldq + column + c]!;
          dv[key * kvWidth + kvColumn + c]! += p * dout[row * lddo + column + c]!;
        }
      }
    }
    store(dq, memory.f32(dqAt), lddq, width);
    store(dk, memory.f32(dkAt), lddk, kvWidth);
    store(dv, memory.f32(dvAt), lddv, kvWidth);
  };
}

/** Writes rows of `width` sums to rows that are `stride` apart. */
function store(sums: Float64Array, target: Floats, stride: number, width: number): void {
  for (let i = 0; i < sums.length; i++) target[Math.floor(i / width) * stride + (i % width)] = sums[i]!;
}
