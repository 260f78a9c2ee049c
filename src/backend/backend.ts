/** What a backend is: kernels plus the memory they work on. Nothing above this room knows which one runs. */
import type { Allocator } from "../tensor/tensor.ts";
import type { Kernels } from "./kernels.ts";

export type BackendName = "native" | "wasm" | "reference";

/** Instruction sets a backend may be built for. */
export type InstructionSet = "amx" | "avx512" | "avx2" | "x86-64" | "neon" | "simd128" | "typescript";

/**
 * How inputs of matrix products are rounded: not at all, or to bf16 with sums in f32 (mixed precision, as the paper trained).
 * Weights, gradients, optimiser, norms, attention and routers are f32 either way.
 */
export type Precision = "f32" | "bf16";

export interface Backend extends Allocator {
  /** "dry" computes nothing (dry/dry.ts). */
  readonly name: BackendName | "dry";
  readonly isa: InstructionSet;
  readonly precision: Precision;
  /** Threads that kernels run on, the caller's included. */
  readonly threads: number;
  readonly kernels: Kernels;
  /** Ends the threads that belong to this backend alone. Its memory stays; kernels then run on the caller's thread. */
  close(): void;
}
