// Matrix products: a register tile of MR rows by NR columns over B packed in panels, in the manner of BLIS. The tile is
// all that needs tuning; the dense product, the experts' grouped products and attention are loops around it.
//
// Each output is the sum over k in rising order, in blocks of KC, whatever tile, task or neighbour it is computed
// with: a row's bits do not depend on the other rows in the call.
#pragma once
#include <type_traits>

#include "blocks.h"

#if defined(__AVX512F__)
constexpr int MR = 12, NV = 2;  // 24 accumulators, 2 of B, of 32 registers
#elif defined(__AVX2__)
constexpr int MR = 6, NV = 2;  // 12 accumulators of 16
#elif defined(__aarch64__)
constexpr int MR = 8, NV = 2;  // 16 accumulators of 32
#else
constexpr int MR = 4, NV = 2;  // 8 accumulators of 16
#endif
constexpr int NR = NV * LANES;
constexpr isize KC = 256;
constexpr isize IN_PLACE_PANELS = 768 / NR;

// A as MR separate rows: element (i, k) is row[i][k]. Gathered rows need no copy.
struct RowsOfA {
  const f32* row[MR];
  INLINE f32 at(const RowsOfA& a, int i, isize k) { return a.row[i][k]; }
};
// MR rows of a matrix; rows beyond `rows` repeat the first, and their results are not stored.
INLINE RowsOfA rows_of(const f32* a, isize lda, isize rows) {
  RowsOfA tile;
  for (int r = 0; r < MR; r++) tile.row[r] = a + (r < rows ? r : 0) * lda;
  return tile;
}
// A packed k by k: element (i, k) is data[k * MR + i].
struct PanelOfA {
  const f32* data;
  INLINE f32 at(const PanelOfA& a, int i, isize k) { return a.data[k * MR + i]; }
};

// tile[i] += sum over k of A[i, k] * panel[k, :]. The panel holds NR values for each k.
template <class A>
INLINE void multiply_tile(const A& a, const f32* panel, isize k, vf (&tile)[MR][NV]) {
  for (isize p = 0; p < k; p++) {
    vf b[NV];
    for (int v = 0; v < NV; v++) b[v] = *(const vf*)(panel + p * NR + v * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      vf x = splat(A::at(a, i, p));
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) tile[i][v] += x * b[v];
    }
  }
}

// Writes or adds the tile's first `rows` x `cols` values.
INLINE void store_tile(const vf (&tile)[MR][NV], f32* c, isize ldc, isize rows, isize cols, bool add) {
  if (cols == NR) {
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      if (i >= rows) return;
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) {
        f32* place = c + i * ldc + v * LANES;
        store(place, add ? load(place) + tile[i][v] : tile[i][v]);
      }
    }
    return;
  }
  f32 values[NR];
  for (isize i = 0; i < rows; i++) {
    for (int v = 0; v < NV; v++) store(values + v * LANES, tile[i][v]);
    for (isize j = 0; j < cols; j++) c[i * ldc + j] = add ? c[i * ldc + j] + values[j] : values[j];
  }
}

template <class A>
static void run_tile(const A& a, const f32* panel, isize k, f32* c, isize ldc, isize rows, isize cols, bool add) {
  for (isize i = 0; i < rows; i++)  // C comes from far away: ask for it before the arithmetic, not after
    for (isize j = 0; j < cols; j += 16) __builtin_prefetch(c + i * ldc + j, 1);
  vf tile[MR][NV] = {};
  multiply_tile(a, panel, k, tile);
  store_tile(tile, c, ldc, rows, cols, add);
}

// panel[k][j] = b[k][j] for up to NR columns of a row-major B; columns beyond `cols` are zero. row(k) gives row k.
template <class Row>
INLINE void pack_rows(Row row, isize k, isize cols, f32* panel) {
  for (isize p = 0; p < k; p++) {
    const f32* source = row(p);
    if (cols == NR) {
      for (int v = 0; v < NV; v++) store(panel + p * NR + v * LANES, load(source + v * LANES));
    } else {
      for (isize j = 0; j < NR; j++) panel[p * NR + j] = j < cols ? source[j] : 0.0f;
    }
  }
}

// panel[k][j] = source[j][k], width columns of the panel, the first `cols` of them filled. A few cache lines of each row at
// a time: rows are often a multiple of 4 KB apart and would push each other out of the cache.
INLINE void pack_transposed(const f32* source, isize ld, isize k, isize cols, f32* panel, isize width) {
  constexpr isize STEP = 32;
  for (isize p0 = 0; p0 < k; p0 += STEP) {
    isize end = minimum(p0 + STEP, k), j = 0;
    for (; j + 4 <= cols; j += 4) {
      isize p = p0;
      for (; p + 4 <= end; p += 4) transpose4(source + j * ld + p, ld, panel + p * width + j, width);
      for (; p < end; p++)
        for (isize i = 0; i < 4; i++) panel[p * width + j + i] = source[(j + i) * ld + p];
    }
    for (; j < width; j++)
      for (isize p = p0; p < end; p++) panel[p * width + j] = j < cols ? source[j * ld + p] : 0.0f;
  }
}

// The rows of A as they are.
struct Unscaled {};

// panel[k][i] = source[k][i] * factor(k) for up to MR columns of a row-major k x m matrix, which is A transposed.
template <class Row, class Factor>
INLINE void pack_columns(Row row, const Factor& factor, isize k, isize rows, f32* panel) {
  for (isize p = 0; p < k; p++) {
    const f32* source = row(p);
    f32* target = panel + p * MR;
    if (rows == MR) memcpy(target, source, MR * sizeof(f32));
    else
      for (isize i = 0; i < MR; i++) target[i] = i < rows ? source[i] : 0.0f;
    if constexpr (!std::is_same_v<Factor, Unscaled>) {
      f32 scale = factor(p);
      for (isize i = 0; i < MR; i++) target[i] *= scale;
    }
  }
}

// All panels of m columns at once, one after another: row by row, because rows may be pages apart.
template <class Row>
INLINE void pack_block(Row row, isize k, isize m, f32* panels) {
  for (isize p = 0; p < k; p++)
    for (isize i = 0; i < m; i += MR)
      pack_columns([&](isize) { return row(p) + i; }, Unscaled{}, 1, minimum(MR, m - i), panels + i * k + p * MR);
}

// B of a product as the source of its panels: stored [k, n], or [n, k] when transposed.
struct SourceOfB {
  const f32* data;
  isize ld;
  bool transposed;
  INLINE void pack(const SourceOfB& b, isize p, isize k, isize j, isize cols, f32* panel) {
    if (b.transposed) pack_transposed(b.data + j * b.ld + p, b.ld, k, cols, panel, NR);
    else pack_rows([&](isize r) { return b.data + (p + r) * b.ld + j; }, k, cols, panel);
  }
};

// C[m, n] (+)= A B on the calling thread, A given by a pointer to each row, panels of B packed as they are needed and
// used for all rows. Right where m is large against the cost of packing.
template <class Row>
static void multiply_rows(isize m, isize n, isize k, Row row, const SourceOfB& b, f32* c, isize ldc, bool add) {
  f32* panel = scratch(SLOT_B, KC * NR);
  for (isize p = 0; p < k; p += KC) {
    isize depth = minimum(KC, k - p);
    for (isize j = 0; j < n; j += NR) {
      isize cols = minimum(NR, n - j);
      SourceOfB::pack(b, p, depth, j, cols, panel);
      for (isize i = 0; i < m; i += MR) {
        isize rows = minimum(MR, m - i);
        RowsOfA a;
        for (int r = 0; r < MR; r++) a.row[r] = row(i + (r < rows ? r : 0)) + p;
        run_tile(a, panel, depth, c + i * ldc + j, ldc, rows, cols, add || p > 0);
      }
    }
  }
  if (k == 0 && !add)
    for (isize i = 0; i < m; i++) memset(c + i * ldc, 0, (size_t)n * sizeof(f32));
}

// C[m, n] += A^T B on the calling thread, both given by their rows: A's row k holds m values, times factor(k), B's row k
// holds n.
template <class RowA, class Factor, class RowB>
static void multiply_columns(isize m, isize n, isize k, RowA row_a, Factor factor, RowB row_b, f32* c, isize ldc) {
  isize panels = (n + NR - 1) / NR;
  f32* packed_b = scratch(SLOT_B, KC * panels * NR);
  f32* packed_a = scratch(SLOT_A, KC * MR);
  for (isize p = 0; p < k; p += KC) {
    isize depth = minimum(KC, k - p);
    for (isize j = 0; j < panels; j++)
      pack_rows([&](isize r) { return row_b(p + r) + j * NR; }, depth, minimum(NR, n - j * NR), packed_b + j * KC * NR);
    for (isize i = 0; i < m; i += MR) {
      isize rows = minimum(MR, m - i);
      auto row = [&](isize r) { return row_a(p + r) + i; };
      if constexpr (std::is_same_v<Factor, Unscaled>) pack_columns(row, factor, depth, rows, packed_a);
      else pack_columns(row, [&](isize r) { return factor(p + r); }, depth, rows, packed_a);
      for (isize j = 0; j < panels; j++)
        run_tile(PanelOfA{packed_a}, packed_b + j * KC * NR, depth, c + i * ldc + j * NR, ldc, rows,
                 minimum(NR, n - j * NR), true);
    }
  }
}

// A dense product C[m, n] (+)= op(A) op(B) with the columns of B that are packed at a time: panel q of block p of k lies
// at packed_b + (p * panels + q * depth) * NR.
struct DenseProduct {
  bool transpose_a, accumulate;
  isize k;
  const f32* a;
  isize lda;
  const f32* packed_b;
  isize n, panels;
  f32* c;
  isize ldc;
};

// Rows begin .. end of it: they stay in the cache while the blocks of k are added up. Where A is stored by rows and few
// panels of B use it, it is read in place; otherwise it is packed first.
static void multiply_block(const DenseProduct& product, isize begin, isize end) {
  isize m = end - begin, lda = product.lda;
  bool in_place = !product.transpose_a && product.panels <= IN_PLACE_PANELS;
  f32* packed_a = in_place ? nullptr : scratch(SLOT_A, round_up(m, MR) * KC);
  for (isize p = 0; p < product.k; p += KC) {
    isize depth = minimum(KC, product.k - p);
    if (product.transpose_a) {
      pack_block([&](isize r) { return product.a + (p + r) * lda + begin; }, depth, m, packed_a);
    } else if (!in_place) {
      for (isize i = 0; i < m; i += MR)
        pack_transposed(product.a + (begin + i) * lda + p, lda, depth, minimum(MR, m - i), packed_a + i * depth, MR);
    }
    for (isize q = 0; q < product.panels; q++)
      for (isize i = 0; i < m; i += MR) {
        isize rows = minimum(MR, m - i), cols = minimum(NR, product.n - q * NR);
        const f32* panel = product.packed_b + (p * product.panels + q * depth) * NR;
        f32* c = product.c + (begin + i) * product.ldc + q * NR;
        bool add = product.accumulate || p > 0;
        if (in_place) run_tile(rows_of(product.a + (begin + i) * lda + p, lda, rows), panel, depth, c, product.ldc, rows, cols, add);
        else run_tile(PanelOfA{packed_a + i * depth}, panel, depth, c, product.ldc, rows, cols, add);
      }
  }
}

OLMOE_API void olmoe_gemm(isize transpose_a, isize transpose_b, isize m, isize n, isize k, const f32* a, isize lda,
                          const f32* b, isize ldb, f32* c, isize ldc, isize accumulate) {
  constexpr isize PACKED = 4 << 20;  // floats of B that are packed at a time
  if (k == 0) {
    for (isize i = 0; i < m && !accumulate; i++) memset(c + i * ldc, 0, (size_t)n * sizeof(f32));
    return;
  }
  // Blocks of at most eight tiles' rows, as equal as can be, the same number for each thread.
  isize tiles = (m + MR - 1) / MR, blocks = thread_count * ((tiles + 8 * thread_count - 1) / (8 * thread_count));
  auto border = [=](isize block) { return minimum(block * tiles / blocks * MR, m); };
  isize columns = maximum(PACKED / k / NR, 1) * NR;
  for (isize j = 0; j < n; j += columns) {
    isize cols = minimum(columns, n - j), panels = (cols + NR - 1) / NR;
    f32* packed_b = scratch(SLOT_SHARED, panels * NR * k);
    SourceOfB source{b, ldb, transpose_b != 0};
    constexpr isize GROUP = 4;  // panels of one task
    isize groups = (panels + GROUP - 1) / GROUP;
    parallel_for(groups * ((k + KC - 1) / KC), [&](isize task) {
      isize p = task / groups * KC, first = task % groups * GROUP, depth = minimum(KC, k - p);
      for (isize q = first; q < minimum(first + GROUP, panels); q++)
        SourceOfB::pack(source, p, depth, j + q * NR, minimum(NR, cols - q * NR), packed_b + (p * panels + q * depth) * NR);
    });
    DenseProduct product{transpose_a != 0, accumulate != 0, k, a, lda, packed_b, cols, panels, c + j, ldc};
    parallel_for(blocks, [&](isize i) { multiply_block(product, border(i), border(i + 1)); });
  }
}
