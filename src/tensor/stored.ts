/**
 * Weights as model files hold them: halves, or blocks of quantised values under GGML's names. They lie where they were
 * mapped or read, one matrix here and one there; kernels are given their addresses and decode on the way.
 */
import { ShapeError } from "../errors.ts";
import type { Tensor } from "./tensor.ts";

/** GGML's number of each type, the values in one block and the block's bytes (ggml.h, ggml-common.h). */
export const STORAGE_TYPES = {
  F32: { id: 0, blockValues: 1, blockBytes: 4 },
  F16: { id: 1, blockValues: 1, blockBytes: 2 },
  Q4_0: { id: 2, blockValues: 32, blockBytes: 18 },
  Q4_1: { id: 3, blockValues: 32, blockBytes: 20 },
  Q5_0: { id: 6, blockValues: 32, blockBytes: 22 },
  Q5_1: { id: 7, blockValues: 32, blockBytes: 24 },
  Q8_0: { id: 8, blockValues: 32, blockBytes: 34 },
  Q2_K: { id: 10, blockValues: 256, blockBytes: 84 },
  Q3_K: { id: 11, blockValues: 256, blockBytes: 110 },
  Q4_K: { id: 12, blockValues: 256, blockBytes: 144 },
  Q5_K: { id: 13, blockValues: 256, blockBytes: 176 },
  Q6_K: { id: 14, blockValues: 256, blockBytes: 210 },
  BF16: { id: 30, blockValues: 1, blockBytes: 2 },
} as const;

export type StorageType = keyof typeof STORAGE_TYPES;

/** Bytes of a row of `columns` values. @throws ShapeError for a row that does not end with a block. */
export function rowBytes(type: StorageType, columns: number): number {
  const { blockValues, blockBytes } = STORAGE_TYPES[type];
  if (columns % blockValues !== 0) {
    throw new ShapeError(`${type}: a row of ${columns} values, expected a multiple of ${blockValues}`);
  }
  return (columns / blockValues) * blockBytes;
}

/**
 * How products with stored weights treat the other side. "f32": weights are decoded and the product is f32, as a model
 * with the decoded weights would compute it. "q8": activations are rounded to blocks of 8-bit values, so that products of
 * quantised weights run on integers, as llama.cpp computes them; other weights are taken as in "f32".
 */
export type Activations = "f32" | "q8";

/**
 * A weight in its stored form: `parts` matrices of [rows, columns] values each, all of one type. An ordinary matrix has one
 * part; the gate and up matrices of a SwiGLU are two parts in this order, those of E experts 2E.
 */
export interface StoredWeight {
  readonly type: StorageType;
  /** The shape of the whole as a model's parameter: [N, D], [E, 2F, D], ... */
  readonly shape: readonly number[];
  readonly rows: number;
  readonly columns: number;
  /** [parts] addresses of the parts' first bytes, as f64: exact up to 2^53. */
  readonly addresses: Tensor<"f64">;
  readonly activations: Activations;
}
