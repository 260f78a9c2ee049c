// Matrix products in f32 registers: a tile of MR rows by NR columns, fed from panels of B, in the manner of BLIS. The tile is
// all that needs tuning; the dense product, the experts' grouped products and attention are loops around it.
//
// Each output is the sum over k in rising order, in blocks of at most KC, whatever tile, task or neighbour it is computed
// with: a row's bits do not depend on the other rows in the call.
#pragma once
#include <type_traits>

#include "blocks.h"

// Loads slow multiply-adds down even where ports are free, so a tile wants few of them: MR + NV for MR * NV.
#if defined(__AVX512F__)
constexpr int MR = 6, NV = 4;  // 24 accumulators, 4 of B, of 32 registers
#elif defined(__AVX2__)
constexpr int MR = 6, NV = 2;  // 12 accumulators of 16
#elif defined(__aarch64__)
constexpr int MR = 8, NV = 2;  // 16 accumulators of 32
#else
constexpr int MR = 4, NV = 2;  // 8 accumulators of 16
#endif
constexpr int NR = NV * LANES;
constexpr isize KC = 256;  // longest block of k

// Floats that a loop runs through again and again: they stay in the second cache.
constexpr isize NEAR = 128 * 1024;
// Rows of a panel of B that stays in the first cache while all of A runs past it.
constexpr isize PANEL = KC < 9216 / NR ? KC : 9216 / NR;
// Longest row, in floats, of a B whose columns are read in place.
constexpr isize SHORT_ROW = 8 * NR;

// The blocks of k that sums are made in: none longer than `most`, and as equal as can be.
INLINE isize block_depth(isize k, isize most) {
  isize blocks = maximum((k + most - 1) / most, 1);
  return maximum((k + blocks - 1) / blocks, 1);
}

// Memory that the next task of this thread will read: its lines are asked for, a few at a time, while this one computes.
struct Ahead {
  const char *place = nullptr, *end = nullptr, *place2 = nullptr, *end2 = nullptr;
  INLINE void take(Ahead& ahead, isize lines) {
    for (; lines > 0 && ahead.place < ahead.end; lines--, ahead.place += 64) __builtin_prefetch(ahead.place, 0, 2);
    if (ahead.place >= ahead.end && ahead.place2) {
      ahead.place = ahead.place2, ahead.end = ahead.end2;
      ahead.place2 = nullptr;
    }
  }
};

// The same for rows of several matrices, which will be read, or written.
struct RowsAhead {
  // `rows` rows of `lines` cache lines, `step` bytes apart.
  struct Part {
    const char* place;
    isize step, rows, lines;
    bool write;
  };
  Part parts[8];
  int count = 0, part = 0;
  isize line = 0;
  INLINE void add(RowsAhead& ahead, const f32* rows, isize ld, isize count, isize columns, bool write) {
    if (count > 0) ahead.parts[ahead.count++] = {(const char*)rows, ld * (isize)sizeof(f32), count, (columns + 15) / 16, write};
  }
  // Returns how many lines are left to ask for elsewhere.
  INLINE isize take(RowsAhead& ahead, isize lines) {
    for (; lines > 0 && ahead.part < ahead.count; lines--) {
      Part& part = ahead.parts[ahead.part];
      if (part.write) __builtin_prefetch(part.place + ahead.line * 64, 1, 2);
      else __builtin_prefetch(part.place + ahead.line * 64, 0, 2);
      if (++ahead.line < part.lines) continue;
      ahead.line = 0, part.place += part.step;
      if (--part.rows == 0) ahead.part++;
    }
    return lines;
  }
};

// A as MR separate rows: element (i, k) is row[i][k]. Gathered rows need no copy.
struct RowsOfA {
  const f32* row[MR];
  INLINE f32 at(const RowsOfA& a, int i, isize k) { return a.row[i][k]; }
};
// A transposed: element (i, k) is data[k * ld + i].
struct ColumnsOfA {
  const f32* data;
  isize ld;
  INLINE f32 at(const ColumnsOfA& a, int i, isize k) { return a.data[k * a.ld + i]; }
};

// B as panels of NR columns: element (k, j) of panel q is data[q * step + k * ld + j].
struct PanelsOfB {
  const f32* data;
  isize step, ld;
};

// tile[i] += sum over k of A[i, k] * b[k, :] for N vectors of columns, rows of b ldb apart.
template <int N, class A>
INLINE void multiply_tile(const A& a, const f32* b, isize ldb, isize k, vf (&tile)[MR][N]) {
#if !defined(__wasm__)  // engines spill registers there, which costs a third of the speed
#pragma GCC unroll 2
#endif
  for (isize p = 0; p < k; p++) {
    vf x[N];
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) x[v] = load(b + p * ldb + v * LANES);
#pragma GCC unroll 16
    for (int i = 0; i < MR; i++) {
      vf y = splat(A::at(a, i, p));
#pragma GCC unroll 4
      for (int v = 0; v < N; v++) tile[i][v] += y * x[v];
    }
  }
}

// C's first `rows` x `cols` values become, or gain, the product. N vectors hold the columns.
template <int N, class A>
static void run_vectors(const A& a, const f32* b, isize ldb, isize k, f32* c, isize ldc, isize rows, isize cols, bool add) {
  for (isize i = 0; i < rows; i++)  // C comes from far away: ask for it before the arithmetic, not after
    for (isize j = 0; j < cols; j += 16) __builtin_prefetch(c + i * ldc + j, 1);
  vf tile[MR][N] = {};
  multiply_tile<N>(a, b, ldb, k, tile);
#pragma GCC unroll 16
  for (int i = 0; i < MR; i++) {
    if (i >= rows) return;
#pragma GCC unroll 4
    for (int v = 0; v < N; v++) {
      f32* place = c + i * ldc + v * LANES;
      isize n = minimum(cols - v * LANES, LANES);
      if (n == LANES) store(place, add ? load(place) + tile[i][v] : tile[i][v]);
      else if (n > 0) store_some(place, add ? load_some(place, n) + tile[i][v] : tile[i][v], n);
    }
  }
}

// The same for up to NR columns: fewer vectors where they do, as for narrow heads.
template <class A>
INLINE void run_tile(const A& a, const f32* b, isize ldb, isize k, f32* c, isize ldc, isize rows, isize cols, bool add) {
  if (cols > NR - LANES) run_vectors<NV>(a, b, ldb, k, c, ldc, rows, cols, add);
  else if (cols > NR / 2) run_vectors<NV - 1>(a, b, ldb, k, c, ldc, rows, cols, add);
  else run_vectors<NV / 2>(a, b, ldb, k, c, ldc, rows, cols, add);
}

// C[m, n] (+)= A B for one block of k. tile(i, rows) gives A's rows i .. i + rows; rows beyond them may repeat others. All
// panels of B run past one tile of A, so that A stays in the first cache and C is written along its rows.
template <class TileOfA>
static void multiply_panels(isize m, isize n, isize k, TileOfA tile, const PanelsOfB& b, f32* c, isize ldc, bool add,
                            Ahead* ahead = nullptr) {
  for (isize i = 0; i < m; i += MR) {
    isize rows = minimum(MR, m - i);
    auto a = tile(i, rows);
    for (isize j = 0, q = 0; j < n; j += NR, q++) {
      if (ahead) Ahead::take(*ahead, k / 16);
      run_tile(a, b.data + q * b.step, b.ld, k, c + i * ldc + j, ldc, rows, minimum(NR, n - j), add);
    }
  }
}

// MR rows of a matrix; rows beyond `rows` repeat the first, and their results are not stored.
INLINE RowsOfA rows_of(const f32* a, isize lda, isize rows) {
  RowsOfA tile;
  for (int r = 0; r < MR; r++) tile.row[r] = a + (r < rows ? r : 0) * lda;
  return tile;
}

// panel[k][j] = row(k)[j] for up to NR columns of a row-major B; columns beyond `cols` are zero.
template <class Row>
INLINE void pack_rows(Row row, isize k, isize cols, f32* panel) {
  for (isize p = 0; p < k; p++) {
    const f32* source = row(p);
    for (int v = 0; v < NV; v++) {
      isize some = cols - v * LANES;
      vf x = some >= LANES ? load(source + v * LANES) : some > 0 ? load_some(source + v * LANES, some) : splat(0);
      store(panel + p * NR + v * LANES, x);
    }
  }
}

// panel[k][j] = source[j][k], the first `cols` of WIDTH columns. A few cache lines of each row at a time: rows are often a
// multiple of 4 KB apart and would push each other out of the cache.
template <int WIDTH = NR>
INLINE void pack_transposed(const f32* source, isize ld, isize k, isize cols, f32* panel) {
  constexpr isize STEP = 32;
  for (isize p0 = 0; p0 < k; p0 += STEP) {
    isize end = minimum(p0 + STEP, k), j = 0;
#if defined(__AVX512F__)
    for (; j + 16 <= cols && p0 + STEP <= k; j += 16)
      for (isize p = p0; p < end; p += 16) transpose16(source + j * ld + p, ld, panel + p * WIDTH + j, WIDTH);
#endif
    for (; j + 4 <= cols; j += 4) {
      isize p = p0;
      for (; p + 4 <= end; p += 4) transpose4(source + j * ld + p, ld, panel + p * WIDTH + j, WIDTH);
      for (; p < end; p++)
        for (isize i = 0; i < 4; i++) panel[p * WIDTH + j + i] = source[(j + i) * ld + p];
    }
    for (; j < WIDTH; j++)
      for (isize p = p0; p < end; p++) panel[p * WIDTH + j] = j < cols ? source[j * ld + p] : 0.0f;
  }
}

// B as it is stored: [k, n], or [n, k] when transposed.
struct SourceOfB {
  const f32* data;
  isize ld;
  bool transposed;
  INLINE void pack(const SourceOfB& b, isize p, isize k, isize j, isize cols, f32* panel) {
    if (b.transposed) pack_transposed(b.data + j * b.ld + p, b.ld, k, cols, panel);
    else pack_rows([&](isize r) { return b.data + (p + r) * b.ld + j; }, k, cols, panel);
  }
};

// A dense product C[m, n] (+)= op(A) op(B).
struct DenseProduct {
  bool transpose_a, accumulate;
  isize m, n, k;
  const f32* a;
  isize lda;
  SourceOfB b;
  f32* c;
  isize ldc;
};

INLINE void clear_rows(f32* c, isize ldc, isize m, isize n) {
  for (isize i = 0; i < m; i++) memset(c + i * ldc, 0, (size_t)n * sizeof(f32));
}

// task(begin, end) over blocks of at most `most` rows, whole units of `unit`: as equal as can be, the same number for each
// thread.
template <class F>
static void each_row_block(isize m, isize unit, isize most, F task) {
  isize units = (m + unit - 1) / unit, share = most / unit * thread_count;
  isize blocks = thread_count * ((units + share - 1) / share);
  auto border = [=](isize block) { return minimum(block * units / blocks * unit, m); };
  parallel_for(blocks, [&](isize i) { task(border(i), border(i + 1)); });
}

namespace tile_products {

// C[m, n] (+)= A B on the calling thread, A given by a pointer to each row. B is packed for this call alone, a panel at a time,
// which so never leaves the first cache.
template <class Row>
static void multiply_rows(isize m, isize n, isize k, Row row, const SourceOfB& b, f32* c, isize ldc, bool add,
                          Ahead* ahead = nullptr) {
  isize columns = maximum(NEAR / maximum(m, 1) / NR, 1) * NR, most = block_depth(k, PANEL);
  f32* panel = scratch(SLOT_B, most * NR);
  for (isize first = 0; first < n; first += columns)
    for (isize p = 0; p < k; p += most)
      for (isize j = first; j < minimum(first + columns, n); j += NR) {
        isize depth = minimum(most, k - p), cols = minimum(NR, n - j);
        auto tile = [&](isize i, isize rows) {
          RowsOfA a;
          for (int r = 0; r < MR; r++) a.row[r] = row(i + (r < rows ? r : 0)) + p;
          return a;
        };
        SourceOfB::pack(b, p, depth, j, cols, panel);
        multiply_panels(m, cols, depth, tile, {panel, 0, NR}, c + j, ldc, add || p > 0, ahead);
      }
  if (k == 0 && !add) clear_rows(c, ldc, m, n);
}

// m columns of A transposed, tile by tile: element (i, p) lies at data[i / MR * step + p * MR + i % MR]. What lies beyond m is
// undefined: its products are not stored.
struct TilesOfA {
  const f32* data;
  isize step;
  INLINE ColumnsOfA at(const TilesOfA& tiles, isize i) { return {tiles.data + i / MR * tiles.step, MR}; }
};
template <class Row>
static TilesOfA pack_tiles(Row row, isize k, isize m, Slot slot) {
  // Powers of two are copied at once: what is too much is written over by the next row, or lies between tiles.
  constexpr isize WHOLE = MR == 6 ? 8 : MR;
  isize step = k * MR + WHOLE - MR;
  f32* tiles = scratch(slot, (m + MR - 1) / MR * step);
  for (isize p = 0; p < k; p++) {
    const f32* source = row(p);
    f32* target = tiles + p * MR;
    isize i = 0;
    for (; i + WHOLE <= m; i += MR, target += step) memcpy(target, source + i, WHOLE * sizeof(f32));
    for (; i < m; i += MR, target += step) memcpy(target, source + i, (size_t)minimum(MR, m - i) * sizeof(f32));
  }
  return {tiles, step};
}

// C[m, n] (+)= A^T B on the calling thread, both given by their rows: A's row k holds m values, B's row k holds n.
template <class RowA, class RowB>
static void multiply_columns(isize m, isize n, isize k, RowA row_a, RowB row_b, f32* c, isize ldc, bool add) {
  isize most = block_depth(k, PANEL);
  f32* panel = scratch(SLOT_B, most * NR);
  for (isize p = 0; p < k; p += most) {
    isize depth = minimum(most, k - p);
    TilesOfA tiles = pack_tiles([&](isize r) { return row_a(p + r); }, depth, m, SLOT_A);
    auto tile = [=](isize i, isize) { return TilesOfA::at(tiles, i); };
    for (isize j = 0; j < n; j += NR) {
      isize cols = minimum(NR, n - j);
      pack_rows([&](isize r) { return row_b(p + r) + j; }, depth, cols, panel);
      multiply_panels(m, cols, depth, tile, {panel, 0, NR}, c + j, ldc, add || p > 0);
    }
  }
  if (k == 0 && !add) clear_rows(c, ldc, m, n);
}

// Rows begin .. end of a dense product, in parts of n whose panels stay near. Panels of block p of k begin at
// packed + p * round_up(n, NR); where packed is null, B is used where it is.
static void multiply_block(const DenseProduct& product, const f32* packed, isize begin, isize end) {
  isize m = end - begin, lda = product.lda, width = round_up(product.n, NR), most = block_depth(product.k, KC);
  isize columns = maximum(NEAR / most / NR, 1) * NR;
  for (isize j = 0; j < product.n; j += columns)
    for (isize p = 0; p < product.k; p += most) {
      isize depth = minimum(most, product.k - p), cols = minimum(columns, product.n - j);
      PanelsOfB b{packed + p * width + j * depth, depth * NR, NR};
      if (!packed) b = {product.b.data + p * product.b.ld + j, NR, product.b.ld};
      f32* c = product.c + begin * product.ldc + j;
      bool add = product.accumulate || p > 0;
      if (product.transpose_a) {
        TilesOfA tiles = pack_tiles([&](isize r) { return product.a + (p + r) * lda + begin; }, depth, m, SLOT_A);
        auto tile = [=](isize i, isize) { return TilesOfA::at(tiles, i); };
        multiply_panels(m, cols, depth, tile, b, c, product.ldc, add);
      } else {
        auto tile = [&](isize i, isize rows) { return rows_of(product.a + (begin + i) * lda + p, lda, rows); };
        multiply_panels(m, cols, depth, tile, b, c, product.ldc, add);
      }
    }
}

// Up to MR rows with B transposed, as those of one token: each task reads its rows of B once, as fast as memory gives them, and
// has a vector of outputs, in the same order of sums as any tile.
static void multiply_few(const DenseProduct& product) {
  constexpr isize RUN = 64, AHEAD = 4 * RUN;  // columns of B that are packed at a time, and asked for before
  isize n = product.n, k = product.k, ld = product.b.ld, most = block_depth(k, KC);
  parallel_for((n + LANES - 1) / LANES, [&](isize task) {
    isize j = task * LANES, cols = minimum(LANES, n - j);
    const f32* b = product.b.data + j * ld;
    f32* panel = scratch(SLOT_B, most * LANES);
    auto ask = [=](isize begin, isize end) {
      for (isize row = 0; row < cols; row++)
        for (isize p = begin; p < minimum(end, k); p += 16) __builtin_prefetch(b + row * ld + p, 0, 1);
    };
    ask(0, AHEAD);
    for (isize p = 0; p < k; p += most) {
      isize depth = minimum(most, k - p);
      for (isize q = 0; q < depth; q += RUN) {
        ask(p + q + AHEAD, p + q + AHEAD + RUN);
        pack_transposed<LANES>(b + p + q, ld, minimum(RUN, depth - q), cols, panel + q * LANES);
      }
      run_vectors<1>(rows_of(product.a + p, product.lda, product.m), panel, LANES, depth, product.c + j, product.ldc,
                     product.m, cols, product.accumulate || p > 0);
    }
  });
}

static void multiply_dense(const DenseProduct& product) {
  if (product.m <= MR && product.b.transposed && !product.transpose_a) return multiply_few(product);
  constexpr isize GROUP = 16;  // panels of one task
  const SourceOfB& b = product.b;
  isize n = product.n, k = product.k, most = block_depth(k, KC);
  isize panels = (n + NR - 1) / NR, groups = (panels + GROUP - 1) / GROUP;
  f32* packed = nullptr;
  bool in_place = !b.transposed && b.ld <= SHORT_ROW && n % (NR / 2) == 0;  // whole vectors of rows that are not far apart
  if (!in_place) {
    packed = scratch(SLOT_SHARED, panels * NR * k);
    parallel_for(groups * ((k + most - 1) / most), [&](isize task) {
      isize p = task / groups * most, first = task % groups * GROUP, depth = minimum(most, k - p);
      for (isize q = first; q < minimum(first + GROUP, panels); q++)
        SourceOfB::pack(b, p, depth, q * NR, minimum(NR, n - q * NR), packed + (p * panels + q * depth) * NR);
    });
  }
  constexpr isize BLOCK = 40 * MR;  // rows of one task, at most
  each_row_block(product.m, MR, BLOCK, [&](isize begin, isize end) { multiply_block(product, packed, begin, end); });
}

// Products of small matrices that lie near: B is packed once for several of them, A comes as it is.
static PanelsOfB columns_of(const SourceOfB& b, isize k, isize n, Slot slot) {
  f32* packed = scratch(slot, round_up(n, NR) * k);
  for (isize q = 0; q < n; q += NR) SourceOfB::pack(b, 0, k, q, minimum(NR, n - q), packed + q * k);
  return {packed, k * NR, NR};
}

}  // namespace tile_products
