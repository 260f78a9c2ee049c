/**
 * The reference backend: every function of kernels/kernels.h in plain TypeScript, for reading and as the oracle of the
 * tests. Sums are formed in f64 and stored in f32; scalar arguments are rounded to f32 as the C ABI does.
 */
import type { Backend } from "../backend.ts";
import type { Kernels } from "../kernels.ts";
import { adamw } from "./adamw.ts";
import { attentionBackward, attentionForward } from "./attention.ts";
import { dropOverflow, expertChoice, maskSlots } from "./choice.ts";
import { crossEntropy } from "./crossEntropy.ts";
import { add, clampBackward, clampForward, difference, fill, firstNonfinite, sumSquares } from "./elementwise.ts";
import { embeddingBackward, embeddingForward } from "./embedding.ts";
import { gemm } from "./gemm.ts";
import { Heap, type Memory } from "./heap.ts";
import { layernormBackward, layernormForward } from "./layernorm.ts";
import { cpuFeatures, fmaBurst, readBurst, setThreads } from "./machine.ts";
import { moeBackward, moeForward, moePlan } from "./moe.ts";
import { cacheStore, pagedAttention } from "./paged.ts";
import { encodeRows } from "./quantise.ts";
import { rmsnormBackward, rmsnormForward } from "./rmsnorm.ts";
import { rope } from "./rope.ts";
import { routerBackward, routerForward, routerStats } from "./router.ts";
import { decodeRows } from "./storage.ts";
import { storedEmbedding, storedExperts, storedLinear } from "./stored.ts";
import { swigluBackward, swigluForward } from "./swiglu.ts";

/** A backend with a heap of its own, which grows as needed up to 4 GiB. */
export function createReferenceBackend(): Backend {
  const heap = new Heap();
  return {
    name: "reference",
    isa: "typescript",
    precision: "f32",
    threads: 1,
    kernels: referenceKernels(heap),
    allocate: (byteLength) => heap.allocate(byteLength),
    close: () => undefined,
  };
}

/** The kernels over any memory: tests pass one whose floats are f64. */
export function referenceKernels(memory: Memory): Kernels {
  return {
    cpuFeatures: cpuFeatures(),
    setThreads: setThreads(),
    fmaBurst: fmaBurst(),
    readBurst: readBurst(memory),
    fill: fill(memory),
    add: add(memory),
    clampForward: clampForward(memory),
    clampBackward: clampBackward(memory),
    sumSquares: sumSquares(memory),
    firstNonfinite: firstNonfinite(memory),
    gemm: gemm(memory),
    gemmF32: gemm(memory),
    embeddingForward: embeddingForward(memory),
    embeddingBackward: embeddingBackward(memory),
    rmsnormForward: rmsnormForward(memory),
    rmsnormBackward: rmsnormBackward(memory),
    layernormForward: layernormForward(memory),
    layernormBackward: layernormBackward(memory),
    rope: rope(memory),
    attentionForward: attentionForward(memory),
    attentionBackward: attentionBackward(memory),
    cacheStore: cacheStore(memory),
    pagedAttention: pagedAttention(memory),
    swigluForward: swigluForward(memory),
    swigluBackward: swigluBackward(memory),
    routerForward: routerForward(memory),
    routerBackward: routerBackward(memory),
    routerStats: routerStats(memory),
    expertChoice: expertChoice(memory),
    dropOverflow: dropOverflow(memory),
    maskSlots: maskSlots(memory),
    moePlan: moePlan(memory),
    moeForward: moeForward(memory),
    moeBackward: moeBackward(memory),
    decodeRows: decodeRows(memory),
    encodeRows: encodeRows(memory),
    difference: difference(memory),
    storedLinear: storedLinear(memory),
    storedEmbedding: storedEmbedding(memory),
    storedExperts: storedExperts(memory),
    crossEntropy: crossEntropy(memory),
    adamw: adamw(memory),
  };
}
