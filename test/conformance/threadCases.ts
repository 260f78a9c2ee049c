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
import { Draw, type KernelCase } from "./harness.ts";
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
import { decodeRowsCase, differenceCase, encodeRowsCase } from "./storageCases.ts";
import { storedEmbeddingCase, storedExpertsCase, storedLinearCase } from "./storedCases.ts";

const COUNT = 200_003;
const draw = new Draw(23);
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
  storedLinearCase({ type: "Q4_0", rows: 150, columns: 96, tokens: 19, parts: 2 }),
  storedLinearCase({ type: "Q4_K", rows: 150, columns: 256, tokens: 3 }),
  storedLinearCase({ type: "BF16", rows: 150, columns: 100, tokens: 7 }),
  storedEmbeddingCase("Q6_K", 501, 256),
  storedExpertsCase({ type: "Q4_0", tokens: 131, experts: 8, topK: 2, width: 96, inner: 64 }),
  crossEntropyCase(101, 2003, 1 / 101),
  adamwCase(COUNT, 2, 0.1),
  decodeRowsCase("Q4_K", 257, 512),
  decodeRowsCase("F16", 3, 70_001),
  encodeRowsCase("Q8_0", "many rows", 96, draw.floats(1001 * 96)),
  encodeRowsCase("Q4_K", "many rows", 256, draw.floats(131 * 256)),
  encodeRowsCase("Q6_K", "many rows", 256, draw.floats(131 * 256)),
  differenceCase(COUNT),
];
