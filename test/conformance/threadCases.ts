/** Cases large enough to be split over threads, at sizes that do not divide evenly. */
import { attentionBackwardCase, attentionForwardCase } from "./attentionCases.ts";
import { dropOverflowCase, expertChoiceCase, maskSlotsCase } from "./choiceCases.ts";
import {
  adamwCase,
  addCase,
  clampBackwardCase,
  clampForwardCase,
  crossEntropyCase,
  embeddingBackwardCase,
  embeddingForwardCase,
  fillCase,
  firstNonfiniteCase,
  sumSquaresCase,
} from "./elementwiseCases.ts";
import { gemmCase } from "./gemmCases.ts";
import type { KernelCase } from "./harness.ts";
import { layernormBackwardCase, layernormForwardCase } from "./layernormCases.ts";
import { moeBackwardCase, moeForwardCase, moeInputs, moePlanCase } from "./moeCases.ts";
import {
  rmsnormBackwardCase,
  rmsnormForwardCase,
  ropeCase,
  swigluBackwardCase,
  swigluForwardCase,
} from "./normCases.ts";
import { pagedThreadCases } from "./pagedCases.ts";
import { routerBackwardCase, routerForwardCase, routerStatsCase } from "./routerCases.ts";

const COUNT = 200_003;
const router = { tokens: 1001, experts: 64, topK: 8, normalise: true };
const experts = moeInputs({ tokens: 131, experts: 8, topK: 2, width: 64, inner: 48 });
const attention = { batch: 2, queries: 150, heads: 4, kvHeads: 2, documents: true };

export const threadCases: readonly KernelCase[] = [
  fillCase(COUNT),
  addCase(COUNT),
  clampForwardCase(1001, 200, false),
  clampBackwardCase(1001, 200, true),
  sumSquaresCase(COUNT),
  sumSquaresCase(6 * COUNT),
  firstNonfiniteCase(COUNT, { 150000: Number.NaN, 150001: Infinity, 70000: Infinity }),
  gemmCase({ m: 257, n: 300, k: 129 }),
  gemmCase({ m: 129, n: 257, k: 300, transposeA: true, accumulate: true }),
  gemmCase({ m: 1, n: 1000, k: 300, transposeB: true }),
  gemmCase({ m: 40, n: 24, k: 4001, transposeA: true, transposeB: true }),
  embeddingForwardCase(2001, 100),
  embeddingBackwardCase(2001, 100),
  rmsnormForwardCase(1001, 100),
  rmsnormBackwardCase(1001, 100, { accumulate: true }),
  layernormForwardCase(1001, 100),
  layernormBackwardCase(1001, 100, { accumulate: true }),
  ropeCase(501, 4, 64, false),
  attentionForwardCase(attention),
  attentionForwardCase({ queries: 1, keys: 1500, heads: 4 }),
  attentionBackwardCase(attention),
  ...pagedThreadCases,
  swigluForwardCase(501, 200),
  swigluBackwardCase(501, 200, false),
  routerForwardCase(router),
  routerBackwardCase(router, { weights: true, probs: true, mask: true, zCoef: 0.01 }),
  routerStatsCase(router, true, true),
  expertChoiceCase({ groups: 3, length: 257, experts: 17, capacity: 30, probs: "tied" }),
  dropOverflowCase({ tokens: 1001, experts: 17, topK: 3, capacity: 100 }),
  maskSlotsCase(COUNT, false),
  moePlanCase(experts),
  moeForwardCase(experts),
  moeBackwardCase(experts),
  crossEntropyCase(101, 2003, 1 / 101),
  adamwCase(COUNT, 2, 0.1),
];
