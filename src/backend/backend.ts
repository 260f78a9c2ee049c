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

/** A file's bytes where kernels can reach them, read-only. There is no array buffer over the whole. */
export interface MappedFile {
  /** What a kernel is given for the first byte. */
  readonly address: number;
  readonly byteLength: number;
  /**
   * To be asked after each use of the bytes.
   * @throws CheckpointError once the file has changed, become shorter or could not be read while it was mapped.
   */
  check(): void;
  /** Gives the bytes back. Nothing over them may be used any more. */
  release(): void;
}

export interface Backend extends Allocator {
  /** "dry" computes nothing (dry/dry.ts). */
  readonly name: BackendName | "dry";
  readonly isa: InstructionSet;
  readonly precision: Precision;
  /** Threads that kernels run on, the caller's included. */
  readonly threads: number;
  readonly kernels: Kernels;
  /**
   * Maps an open file; absent where a backend has memory of its own only. The same file is mapped once, however often.
   * @param descriptor stays the caller's, who may close it.
   * @param path for messages.
   * @throws ResourceError where the system refuses; CheckpointError if the file has not `byteLength` bytes.
   */
  mapFile?(descriptor: number, byteLength: number, path: string): MappedFile;
  /** Ends the threads that belong to this backend alone. Its memory stays; kernels then run on the caller's thread. */
  close(): void;
}
