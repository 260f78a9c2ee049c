/** Dense products: C[m, n] = op(A)[m, k] op(B)[k, n], or +=. */
import type { Kernels } from "../kernels.ts";
import type { Memory } from "./heap.ts";

export function gemm(memory: Memory): Kernels["gemm"] {
  return (transposeA, transposeB, m, n, k, aAt, lda, bAt, ldb, cAt, ldc, accumulate) => {
    const a = memory.f32(aAt);
    const b = memory.f32(bAt);
    const c = memory.f32(cAt);
    // op(A)[i, l] = a[i * rowOfA + l * columnOfA], and B likewise.
    const [rowOfA, columnOfA] = transposeA ? [1, lda] : [lda, 1];
    const [rowOfB, columnOfB] = transposeB ? [1, ldb] : [ldb, 1];
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) {
        let sum = 0;
        for (let l = 0; l < k; l++) sum += a[i * rowOfA + l * columnOfA]! * b[l * rowOfB + j * columnOfB]!;
        c[i * ldc + j] = accumulate ? c[i * ldc + j]! + sum : sum;
      }
    }
  };
}
