// The dense product, and which products the experts use: those of f32 registers, or by fragments where the library is
// built for them.
#pragma once
#include "tile.h"

#if defined(__AMX_BF16__) || defined(OLMOE_BF16)
#include "fragments.h"
namespace products = fragment_products;
#else
namespace products = tile_products;
#endif

// C in parts of its columns, so that what is packed of B stays within bounds.
template <class Multiply>
INLINE void multiply_in_parts(const DenseProduct& whole, Multiply multiply) {
  constexpr isize PACKED = 4 << 20;  // elements of B that are packed at a time
  if (whole.k == 0) {
    if (!whole.accumulate) clear_rows(whole.c, whole.ldc, whole.m, whole.n);
    return;
  }
  isize columns = maximum(PACKED / whole.k / 64, 1) * 64;
  for (isize j = 0; j < whole.n; j += columns) {
    DenseProduct part = whole;
    part.n = minimum(columns, whole.n - j);
    part.b.data += whole.b.transposed ? j * whole.b.ld : j;
    part.c += j;
    multiply(part);
  }
}

OLMOE_API void olmoe_gemm(isize transpose_a, isize transpose_b, isize m, isize n, isize k, const f32* a, isize lda,
                          const f32* b, isize ldb, f32* c, isize ldc, isize accumulate) {
  multiply_in_parts({transpose_a != 0, accumulate != 0, m, n, k, a, lda, {b, ldb, transpose_b != 0}, c, ldc},
                    products::multiply_dense);
}

OLMOE_API void olmoe_gemm_f32(isize transpose_a, isize transpose_b, isize m, isize n, isize k, const f32* a, isize lda,
                              const f32* b, isize ldb, f32* c, isize ldc, isize accumulate) {
  multiply_in_parts({transpose_a != 0, accumulate != 0, m, n, k, a, lda, {b, ldb, transpose_b != 0}, c, ldc},
                    tile_products::multiply_dense);
}
