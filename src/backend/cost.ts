/**
 * What a kernel call costs, from its arguments alone. The definition of "active matrix-product FLOPs" is this file's
 * `flops` summed over the calls of a step that recomputes nothing; docs/performance.md ("What is counted") has the
 * arithmetic, and `flopsPerToken` of src/model/counts.ts adds it up for a config.
 *
 *   flops   of matrix products only, two for a multiply-add; 0 for every other kernel. A backward pass counts the products
 *           that the mathematics needs, twice the forward pass's: what a kernel computes again is not counted.
 *   bytes   that have to be moved at the least: every operand once, or twice where it is read and written.
 *
 * Some counts are not exact, because the arguments do not show what the data decides: the rows of the experts are taken
 * as tokens * topK, as if every slot had its expert, where the caller does not know them; attention is taken as causal,
 * without document borders, and over a cache as that of sequences of equal length.
 */
import { STORAGE_TYPES } from "../tensor/stored.ts";
import type { Kernels } from "./kernels.ts";

export type KernelName = keyof Kernels;

export interface Cost {
  readonly flops: number;
  readonly bytes: number;
}

/** Cost of floats that are read or written once, without products. */
const moved = (floats: number): Cost => ({ flops: 0, bytes: 4 * floats });
const NOTHING = moved(0);

/** Pairs of a query and a key that it sees, when the queries are the last of `keys` positions. */
function causalPairs(batch: number, queries: number, keys: number): number {
  return batch * (queries * (keys - queries) + (queries * (queries + 1)) / 2);
}

/** Bytes of one token's keys and values in pages of a type (GGML's number: F32, F16 or Q8_0). */
function cachedBytes(kvHeads: number, channels: number, type: number): number {
  if (type === 8) return 2 * kvHeads * (channels + 2 * Math.ceil(channels / 32));
  return 2 * kvHeads * channels * (type === 1 ? 2 : 4);
}

/** Floats of the experts that `rows` rows can reach. */
function expertWeights(experts: number, rows: number, width: number, inner: number): number {
  return Math.min(experts, rows) * 3 * width * inner;
}

/** Bytes of a row of a storage type, by GGML's number of it. */
function storedRowBytes(id: number, columns: number): number {
  const { blockBytes, blockValues } = Object.values(STORAGE_TYPES).find((type) => type.id === id)!;
  return (columns / blockValues) * blockBytes;
}

/** Of C = A B, or C += A B. */
function gemmCost(...args: Parameters<Kernels["gemm"]>): Cost {
  const [, , m, n, k, , , , , , , accumulate] = args;
  return { flops: 2 * m * n * k, bytes: 4 * (m * k + k * n + m * n * (accumulate ? 2 : 1)) };
}

/** Of rows in a storage type, and as f32. */
function storedRows(type: number, _from: number, _to: number, count: number, columns: number): Cost {
  return { flops: 0, bytes: count * (4 * columns + storedRowBytes(type, columns)) };
}

/** For every kernel its cost. A new kernel does not compile without an entry. */
export const KERNEL_COSTS: { readonly [K in KernelName]: (...args: Parameters<Kernels[K]>) => Cost } = {
  cpuFeatures: () => NOTHING,
  setThreads: () => NOTHING,
  fmaBurst: () => NOTHING,
  readBurst: (_x, count, repeats) => moved(count * repeats),

  fill: (_x, count) => moved(count),
  add: (_a, _b, _out, count) => moved(3 * count),
  clampForward: (_x, _ldx, _y, _ldy, rows, cols) => moved(2 * rows * cols),
  clampBackward: (_x, _ldx, _dy, _lddy, _dx, _lddx, rows, cols) => moved(3 * rows * cols),
  sumSquares: (_x, count) => moved(count),
  firstNonfinite: (_x, count) => moved(count),

  gemm: gemmCost,
  gemmF32: gemmCost,

  embeddingForward: (_table, _ids, _out, tokens, width) => moved(tokens * (2 * width + 1)),
  embeddingBackward: (_dtable, _ids, _dout, tokens, width) => moved(tokens * (3 * width + 1)),

  rmsnormForward: (_x, _ldx, _w, _y, _ldy, _rstd, rows, width) => moved(rows * (2 * width + 1) + width),
  rmsnormBackward: (_x, _ldx, _w, _rstd, _dy, _lddy, _dx, _lddx, _dw, rows, width, accumulate) =>
    moved(rows * ((accumulate ? 4 : 3) * width + 1) + 3 * width),

  layernormForward: (_x, _ldx, _w, _b, _y, _ldy, _mean, _rstd, rows, width) =>
    moved(rows * (2 * width + 2) + 2 * width),
  layernormBackward: (...args) => {
    const [rows, width, accumulate] = args.slice(11) as [number, number, number];
    return moved(rows * ((accumulate ? 4 : 3) * width + 2) + 5 * width);
  },

  rope: (_x, _ldx, _positions, _cos, _sin, tokens, heads, channels) => moved(tokens * (2 * heads + 1) * channels),

  // Two products for each pair and head: the scores, and their sum over the values.
  attentionForward: (...args) => {
    const [batch, queries, keys, , heads, kvHeads, channels] = args.slice(10) as number[] as Numbers7;
    return {
      flops: 4 * heads * channels * causalPairs(batch, queries, keys),
      bytes: 4 * batch * channels * (2 * queries * heads + 2 * keys * kvHeads),
    };
  },
  attentionBackward: (...args) => {
    const [batch, length, heads, kvHeads, channels] = args.slice(18) as number[] as Numbers5;
    return {
      flops: 8 * heads * channels * causalPairs(batch, length, length),
      bytes: 4 * batch * channels * length * 4 * (heads + kvHeads),
    };
  },

  // Read from f32, written in the type of the pages.
  cacheStore: (...args) => {
    const [tokens, kvHeads, channels, type] = args.slice(6) as number[] as Numbers4;
    return { flops: 0, bytes: tokens * (8 * kvHeads * channels + cachedBytes(kvHeads, channels, type)) };
  },
  pagedAttention: (...args) => {
    const [count, queries, keys, heads, kvHeads, channels, type] = args.slice(7) as number[] as Numbers7;
    const sequences = Math.max(1, count);
    return {
      flops: 4 * heads * channels * causalPairs(sequences, queries / sequences, keys / sequences),
      bytes: 8 * queries * heads * channels + keys * cachedBytes(kvHeads, channels, type),
    };
  },

  swigluForward: (_gateUp, _y, rows, inner) => moved(3 * rows * inner),
  swigluBackward: (_gateUp, _dy, _dgateUp, rows, inner) => moved(5 * rows * inner),

  routerForward: (_logits, _probs, _lse, _ids, _weights, tokens, experts, topK) =>
    moved(tokens * (2 * experts + 1 + 2 * topK)),
  routerBackward: (_probs, _lse, _ids, _weights, _dweights, _probGrad, _mask, _z, _dlogits, tokens, experts, topK) =>
    moved(tokens * (2 * experts + 1 + 3 * topK)),
  routerStats: (_probs, _lse, _ids, _mask, _stats, tokens, experts, topK) => moved(tokens * (experts + 1 + topK)),

  expertChoice: (_probs, _ids, _weights, groups, length, experts) => moved(3 * groups * length * experts),
  dropOverflow: (_chosen, _ids, tokens, _experts, topK) => moved(2 * tokens * topK),
  maskSlots: (_ids, _x, _y, slots) => moved(3 * slots),

  moePlan: (_ids, _offsets, _rowSlot, _slotRow, tokens, experts, topK) => moved(3 * tokens * topK + experts),
  // Gate, up and down of each row.
  moeForward: (...args) => {
    const [tokens, experts, topK, width, inner] = args.slice(10) as number[] as Numbers5;
    const rows = tokens * topK;
    const activations = 2 * tokens * width + rows * (2 * inner + width);
    return {
      flops: 6 * rows * width * inner,
      bytes: 4 * (expertWeights(experts, rows, width, inner) + activations),
    };
  },
  // The same three for the gradient of the rows, and as many for the gradient of the weights where it is wanted.
  moeBackward: (...args) => {
    const [dgateUp, ddown, addGateUp, addDown, tokens, experts, topK, width, inner] = args.slice(
      13,
    ) as number[] as Numbers9;
    const rows = tokens * topK;
    const products = 3 + (dgateUp === 0 ? 0 : 2) + (ddown === 0 ? 0 : 1);
    const weights =
      expertWeights(experts, rows, width, inner) * (1 + (products === 3 ? 0 : addGateUp || addDown ? 2 : 1));
    const activations = 3 * tokens * width + rows * (4 * inner + inner + width);
    return { flops: 2 * products * rows * width * inner, bytes: 4 * (weights + activations) };
  },

  decodeRows: storedRows,
  encodeRows: storedRows,
  difference: (_a, _b, _out, count) => moved(2 * count),
  storedLinear: (type, _parts, parts, rows, columns, _x, _ldx, _y, _ldy, tokens) => ({
    flops: 2 * tokens * parts * rows * columns,
    bytes: parts * rows * storedRowBytes(type, columns) + 4 * tokens * (columns + parts * rows),
  }),
  storedEmbedding: (type, _parts, _ids, _out, tokens, width) => ({
    flops: 0,
    bytes: tokens * (storedRowBytes(type, width) + 4 * (width + 1)),
  }),
  storedExperts: (gateUpType, _gateUp, downType, ...args) => {
    const [tokens, experts, topK, width, inner] = args.slice(9) as number[] as Numbers5;
    const rows = tokens * topK;
    const weights = 2 * inner * storedRowBytes(gateUpType, width) + width * storedRowBytes(downType, inner);
    const activations = 2 * tokens * width + rows * (2 * inner + width);
    return { flops: 6 * rows * width * inner, bytes: Math.min(experts, rows) * weights + 4 * activations };
  },

  crossEntropy: (_logits, _labels, _losses, tokens, vocabulary, scale) =>
    moved(tokens * (vocabulary * (scale === 0 ? 1 : 2) + 2)),

  // The gradient is read; parameter and both moments are read and written.
  adamw: (_param, _grad, _m, _v, count) => moved(7 * count),
};

type Numbers4 = [number, number, number, number];
type Numbers5 = [number, number, number, number, number];
type Numbers7 = [number, number, number, number, number, number, number];
type Numbers9 = [...Numbers7, number, number];

/** Where the arguments of the experts' kernels have the offsets of the experts' rows, and the sizes. */
export const EXPERT_ARGUMENTS = {
  moeForward: { offsets: 4, tokens: 10, experts: 11, topK: 12 },
  moeBackward: { offsets: 4, tokens: 17, experts: 18, topK: 19 },
  storedExperts: { offsets: 6, tokens: 12, experts: 13, topK: 14 },
} as const satisfies Partial<Record<KernelName, object>>;

/** Whether a kernel is one of the experts'. */
export function isExpertKernel(name: KernelName): name is keyof typeof EXPERT_ARGUMENTS {
  return name in EXPERT_ARGUMENTS;
}

/** The cost of one call. @param rows that the experts have, where it is known; else every slot is taken to have one. */
export function kernelCost(name: KernelName, args: readonly number[], rows?: number): Cost {
  const cost = KERNEL_COSTS[name] as (...args: readonly number[]) => Cost;
  if (rows === undefined || !isExpertKernel(name)) return cost(...args);
  const { tokens, topK } = EXPERT_ARGUMENTS[name];
  return cost(...args.with(topK, rows / Math.max(1, args[tokens] as number)));
}
