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

OLMOE_API void olmoe_gemm(isize transpose_a, isize transpose_b, isize m, isize n, isize k, const f32* a, isize lda,
                          const f32* b, isize ldb, f32* c, isize ldc, isize accumulate) {
  constexpr isize PACKED = 4 << 20;  // elements of B that are packed at a time
  if (k == 0) {
    for (isize i = 0; i < m && !accumulate; i++) memset(c + i * ldc, 0, (size_t)n * sizeof(f32));
    return;
  }
  isize columns = maximum(PACKED / k / 64, 1) * 64;
  for (isize j = 0; j < n; j += columns) {
    SourceOfB part{b + (transpose_b ? j * ldb : j), ldb, transpose_b != 0};
    products::multiply_dense({transpose_a != 0, accumulate != 0, m, minimum(columns, n - j), k, a, lda, part, c + j, ldc});
  }
}
