// Matrix products from bf16 operands that are added up in f32, on AMX tiles or with AVX512-BF16.
//
// With one part for each operand this is mixed-precision training: inputs of products are rounded to bf16. With three it
// computes in f32: an f32 is exactly the sum of three bf16 (8 of its 24 bits each), and six of the nine products of such
// parts are kept. Those left out are below 2^-22 |a| |b|, about what f32 multiply-adds round away, and tiles are so much
// faster than multiply-adds that this is the quicker way. (Henry, Tang, Heinecke: arXiv 1904.06376.)
//
// Operands are packed in fragments: 16 rows of A, or columns of B, by 32 of k, one kilobyte for each part. A line of an A
// fragment is a row, pair of k by pair; a line of a B fragment is a pair of k for 16 columns. A pair is k and k + 16.
#pragma once
#include <immintrin.h>

#include "tile.h"

#if defined(OLMOE_BF16)
constexpr int PARTS = 1;
constexpr isize DEEP = 512;  // of k that are packed at a time
#else
constexpr int PARTS = 3;
constexpr isize DEEP = 256;
#endif
constexpr int TURNS = PARTS == 3 ? 6 : 1;  // products of parts that make up one
constexpr isize EDGE = 16, SIDE = 2 * EDGE, STEP = 32, FRAGMENT = EDGE * STEP;
// Columns of B whose fragments stay in the second cache while rows of A run past them.
constexpr isize NEAR_COLUMNS = 512;

typedef uint16_t bf16;

// Fragments of the rows (or columns) of one operand: all parts of one place lie together, and steps of k side by side.
struct Fragments {
  bf16* data;
  isize steps;
  INLINE bf16* at(const Fragments& f, isize index) { return f.data + index / EDGE * f.steps * PARTS * FRAGMENT; }
};

INLINE isize steps_of(isize k) { return (k + STEP - 1) / STEP; }
// Floats that the fragments of `count` rows or columns take; columns of B come in twos of EDGE.
INLINE isize fragment_floats(isize count, isize k) {
  return round_up(count, SIDE) / EDGE * steps_of(k) * PARTS * FRAGMENT / 2;
}

// Rounds to bf16, ties to even.
INLINE __m512i round_bits(__m512i bits) {
  __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  return _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
}

// The next part of x in the upper halves of `bits`, whose lower halves are to be ignored; x becomes what is left of it. The
// first of three parts is cut, so that it never rounds up to infinity. What is left of infinity and NaN is NaN.
INLINE __m512i take_part(__m512& x, int part) {
  const __m512i upper = _mm512_set1_epi32((int)0xffff0000);
  __m512i bits = _mm512_castps_si512(x);
  if (PARTS == 1) {
    __mmask16 special = _mm512_fpclass_ps_mask(x, 0x99);
    return _mm512_mask_mov_epi32(round_bits(bits), special, bits);
  }
  if (part == 0) {
    __m512i high = _mm512_and_si512(bits, upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(high));
    return high;
  }
  if (part == 1) {
    __m512i middle = _mm512_and_si512(_mm512_add_epi32(bits, _mm512_set1_epi32(0x8000)), upper);
    x = _mm512_sub_ps(x, _mm512_castsi512_ps(middle));
    return middle;
  }
  return bits;
}

// The upper halves of `first` and `second`, as pairs.
INLINE __m512i join_pairs(__m512i first, __m512i second) {
  return _mm512_mask_blend_epi16(0xaaaaaaaa, _mm512_srli_epi32(first, 16), second);
}

// One line of a fragment from the values of a step at k = 0 .. 15 and at k = 16 .. 31: k and k + 16 are a pair.
INLINE void split_line(__m512 first, __m512 second, bf16* line) {
#pragma GCC unroll 3
  for (int part = 0; part < PARTS; part++) {
    __m512i low = take_part(first, part), high = take_part(second, part);
    _mm512_store_si512(line + part * FRAGMENT, join_pairs(low, high));
  }
}

// One part of a step by sixteen: lines are rows, or, transposed, columns of two squares, given by line(i, second half?).
template <class Line>
INLINE void split_lines(Line line, bool transposed, bf16* target) {
  if (!transposed) {
    for (int i = 0; i < EDGE; i++) split_line(line(i, false), line(i, true), target + i * STEP);
    return;
  }
  vf first[EDGE], second[EDGE];
#pragma GCC unroll 16
  for (int i = 0; i < EDGE; i++) first[i] = (vf)line(i, false);
  transpose_square(first);
#pragma GCC unroll 16
  for (int i = 0; i < EDGE; i++) second[i] = (vf)line(i, true);
  transpose_square(second);
#pragma GCC unroll 16
  for (int i = 0; i < EDGE; i++) split_line((__m512)first[i], (__m512)second[i], target + i * STEP);
}

INLINE __mmask16 first_lanes(isize count) { return (__mmask16)(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1); }

// Packs `count` vectors that k runs along: rows of A, or, transposed, columns of B. row(i) points to vector i. Fragments
// beyond the last vector, up to `room` of them, are zero.
template <class Row>
INLINE void pack_along(const Fragments& out, Row row, isize count, isize room, isize k, bool transposed) {
  for (isize edge = 0; edge < room; edge += EDGE)
    for (isize p = 0; p < k; p += STEP) {
      __mmask16 first = first_lanes(k - p), second = first_lanes(k - p - EDGE);
      auto line = [&](isize i, bool half) INLINE_LAMBDA {
        if (edge + i >= count) return _mm512_setzero_ps();
        return _mm512_maskz_loadu_ps(half ? second : first, row(edge + i) + p + (half ? EDGE : 0));
      };
      split_lines(line, transposed, Fragments::at(out, edge) + p / STEP * PARTS * FRAGMENT);
    }
}

// Packs `count` columns of a matrix whose rows are k: columns of B, or, transposed, rows of A. row(p) points to the first
// column of k = p. Rows are read whole, one after the other, as memory likes it.
template <class Row>
INLINE void pack_across(const Fragments& out, Row row, isize count, isize room, isize k, bool transposed) {
  for (isize p = 0; p < k; p += STEP)
    for (isize edge = 0; edge < room; edge += EDGE) {
      __mmask16 mask = first_lanes(count - edge);
      auto line = [&](isize i, bool half) INLINE_LAMBDA {
        isize place = p + i + (half ? EDGE : 0);
        return place < k ? _mm512_maskz_loadu_ps(mask, row(place) + edge) : _mm512_setzero_ps();
      };
      split_lines(line, transposed, Fragments::at(out, edge) + p / STEP * PARTS * FRAGMENT);
    }
}

#if defined(__AMX_BF16__)

// All tiles are 16 lines of 64 bytes. The registers belong to a thread: each task sets them up and gives them back.
struct Tiles {
  Tiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t lines[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } shape;
    _tile_loadconfig(&shape);
  }
  ~Tiles() { _tile_release(); }
};

// C[32, 32], or C[16, 32] where not `TALL`, (+)= A B over `steps` of k. a1 and b1 are the second 16 rows and columns.
// beside(), TURNS times a step, is work for the vector units, which wait otherwise.
template <bool TALL, class Beside>
INLINE void multiply_square(const bf16* a0, const bf16* a1, const bf16* b0, const bf16* b1, isize steps, f32* c, isize ldc,
                            bool add, Beside beside) {
  isize stride = ldc * (isize)sizeof(f32);
  if (add) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + EDGE, stride);
    if (TALL) _tile_loadd(2, c + EDGE * ldc, stride);
    if (TALL) _tile_loadd(3, c + EDGE * ldc + EDGE, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (isize s = 0; s < steps; s++) {
    auto load_a = [&](int part) INLINE_LAMBDA {
      _tile_loadd(4, a0 + part * FRAGMENT, 64);
      if (TALL) _tile_loadd(5, a1 + part * FRAGMENT, 64);
    };
    auto load_b = [&](int part) INLINE_LAMBDA {
      _tile_loadd(6, b0 + part * FRAGMENT, 64);
      _tile_loadd(7, b1 + part * FRAGMENT, 64);
    };
    auto multiply = [&]() INLINE_LAMBDA {
      _tile_dpbf16ps(0, 4, 6);
      _tile_dpbf16ps(1, 4, 7);
      if (TALL) _tile_dpbf16ps(2, 5, 6);
      if (TALL) _tile_dpbf16ps(3, 5, 7);
      beside();
    };
    load_a(0);
    if constexpr (PARTS == 3) {  // small products first, each operand loaded as rarely as can be
      load_b(2), multiply();
      load_b(1), multiply();
      load_a(1), multiply();
      load_b(0), multiply();
      load_a(2), multiply();
      load_a(0), multiply();
    } else {
      load_b(0), multiply();
    }
    a0 += PARTS * FRAGMENT, a1 += PARTS * FRAGMENT, b0 += PARTS * FRAGMENT, b1 += PARTS * FRAGMENT;
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c + EDGE, stride);
  if (TALL) _tile_stored(2, c + EDGE * ldc, stride);
  if (TALL) _tile_stored(3, c + EDGE * ldc + EDGE, stride);
}

#else

struct Tiles {};

// Eight rows by 32 columns in registers: each pair of k is one AVX512-BF16 instruction for 16 outputs.
INLINE void multiply_eight(const bf16* a, const bf16* b0, const bf16* b1, isize steps, f32* c, isize ldc, bool add) {
  constexpr int ROWS = 8;
  __m512 sums[ROWS][2];
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < 2; j++) sums[i][j] = add ? _mm512_loadu_ps(c + i * ldc + j * EDGE) : _mm512_setzero_ps();
  for (isize s = 0; s < steps; s++, a += FRAGMENT, b0 += FRAGMENT, b1 += FRAGMENT)
    for (int p = 0; p < EDGE; p++) {
      __m512bh x = (__m512bh)_mm512_load_si512(b0 + p * STEP), y = (__m512bh)_mm512_load_si512(b1 + p * STEP);
#pragma GCC unroll 8
      for (int i = 0; i < ROWS; i++) {
        i32 pair;
        memcpy(&pair, a + i * STEP + 2 * p, sizeof pair);
        __m512bh z = (__m512bh)_mm512_set1_epi32(pair);
        sums[i][0] = _mm512_dpbf16_ps(sums[i][0], z, x);
        sums[i][1] = _mm512_dpbf16_ps(sums[i][1], z, y);
      }
    }
  for (int i = 0; i < ROWS; i++)
    for (int j = 0; j < 2; j++) _mm512_storeu_ps(c + i * ldc + j * EDGE, sums[i][j]);
}

template <bool TALL, class Beside>
INLINE void multiply_square(const bf16* a0, const bf16* a1, const bf16* b0, const bf16* b1, isize steps, f32* c, isize ldc,
                            bool add, Beside) {
  static_assert(PARTS == 1, "without tiles, f32 multiply-adds are the quicker way to f32 products");
  for (int half = 0; half < 2; half++) {
    multiply_eight(a0 + half * 8 * STEP, b0, b1, steps, c + half * 8 * ldc, ldc, add);
    if (TALL) multiply_eight(a1 + half * 8 * STEP, b0, b1, steps, c + (EDGE + half * 8) * ldc, ldc, add);
  }
}

#endif

// C[m, n] (+)= A B for one block of k. Borders of C go through a whole square, so that every output is computed alike.
INLINE void multiply_fragments(isize m, isize n, const Fragments& a, const Fragments& b, f32* c, isize ldc, bool add,
                               Ahead* ahead = nullptr) {
  alignas(64) f32 border[SIDE * SIDE];
  for (isize i = 0; i < m; i += SIDE) {
    isize rows = minimum(SIDE, m - i);
    bool tall = rows > EDGE;
    const bf16 *a0 = Fragments::at(a, i), *a1 = tall ? Fragments::at(a, i + EDGE) : a0;
    for (isize j = 0; j < n; j += SIDE) {
      isize cols = minimum(SIDE, n - j);
      const bf16 *b0 = Fragments::at(b, j), *b1 = Fragments::at(b, j + EDGE);
      bool whole = cols == SIDE && rows % EDGE == 0;
      f32* place = c + i * ldc + j;
      if (!whole && add)
        for (isize r = 0; r < rows; r++) memcpy(border + r * SIDE, place + r * ldc, (size_t)cols * sizeof(f32));
      f32* target = whole ? place : border;
      isize ld = whole ? ldc : SIDE;
      const f32* next = j + SIDE < n ? place + SIDE : c + minimum(i + SIDE, m - 1) * ldc;
      isize asked = 0, share = (4 * EDGE + TURNS * a.steps - 1) / (TURNS * a.steps);
      auto ask = [&]() INLINE_LAMBDA {
        for (isize more = minimum(asked + share, 4 * EDGE); asked < more; asked++)
          __builtin_prefetch(next + asked / 2 * ldc + asked % 2 * EDGE, 1);
        if (ahead) Ahead::take(*ahead, 8 / TURNS + 1);
      };
      if (tall) multiply_square<true>(a0, a1, b0, b1, a.steps, target, ld, add, ask);
      else multiply_square<false>(a0, a1, b0, b1, a.steps, target, ld, add, ask);
      for (isize r = 0; r < rows && !whole; r++) memcpy(place + r * ldc, border + r * SIDE, (size_t)cols * sizeof(f32));
    }
  }
}

// The products of tile.h by fragments: the same functions, arguments and order of sums over blocks of k.
namespace fragment_products {

// Room for the fragments of `count` rows or columns.
static Fragments fragments(Slot slot, isize count, isize k) {
  return {(bf16*)scratch(slot, fragment_floats(count, k)), steps_of(k)};
}

// Columns j .. j + n of rows p .. p + k of B.
INLINE void pack_b(const Fragments& out, const SourceOfB& b, isize p, isize k, isize j, isize n) {
  if (b.transposed) pack_along(out, [&](isize c) { return b.data + (j + c) * b.ld + p; }, n, round_up(n, SIDE), k, true);
  else pack_across(out, [&](isize r) { return b.data + (p + r) * b.ld + j; }, n, round_up(n, SIDE), k, false);
}

template <class Row>
static void multiply_rows(isize m, isize n, isize k, Row row, const SourceOfB& b, f32* c, isize ldc, bool add,
                          Ahead* ahead = nullptr) {
  Tiles tiles;
  for (isize p = 0; p < k; p += DEEP) {
    isize depth = minimum(DEEP, k - p);
    Fragments a = fragments(SLOT_A, m, depth);
    pack_along(a, [&](isize r) { return row(r) + p; }, m, m, depth, false);
    for (isize j = 0; j < n; j += NEAR_COLUMNS) {
      isize cols = minimum(NEAR_COLUMNS, n - j);
      Fragments packed = fragments(SLOT_B, cols, depth);
      pack_b(packed, b, p, depth, j, cols);
      multiply_fragments(m, cols, a, packed, c + j, ldc, add || p > 0, ahead);
    }
  }
  if (k == 0 && !add) clear_rows(c, ldc, m, n);
}

template <class RowA, class RowB>
static void multiply_columns(isize m, isize n, isize k, RowA row_a, RowB row_b, f32* c, isize ldc, bool add) {
  Tiles tiles;
  for (isize p = 0; p < k; p += DEEP) {
    isize depth = minimum(DEEP, k - p);
    Fragments a = fragments(SLOT_A, m, depth);
    pack_across(a, [&](isize r) { return row_a(p + r); }, m, m, depth, true);
    for (isize j = 0; j < n; j += NEAR_COLUMNS) {
      isize cols = minimum(NEAR_COLUMNS, n - j);
      Fragments b = fragments(SLOT_B, cols, depth);
      pack_across(b, [&](isize r) { return row_b(p + r) + j; }, cols, round_up(cols, SIDE), depth, false);
      multiply_fragments(m, cols, a, b, c + j, ldc, add || p > 0);
    }
  }
  if (k == 0 && !add) clear_rows(c, ldc, m, n);
}

// Rows begin .. end of a dense product whose B is packed: block p of k begins at packed + (the floats of p of k).
static void multiply_block(const DenseProduct& product, const f32* packed, isize begin, isize end) {
  Tiles tiles;
  isize m = end - begin, width = round_up(product.n, SIDE);
  for (isize p = 0; p < product.k; p += DEEP) {
    isize depth = minimum(DEEP, product.k - p);
    Fragments rows = fragments(SLOT_A, m, depth);
    const f32* a = product.a + (product.transpose_a ? p * product.lda + begin : begin * product.lda + p);
    auto row = [=](isize r) { return a + r * product.lda; };
    if (product.transpose_a) pack_across(rows, row, m, m, depth, true);
    else pack_along(rows, row, m, m, depth, false);
    Fragments columns{(bf16*)(packed + fragment_floats(width, p)), steps_of(depth)};
    for (isize j = 0; j < product.n; j += NEAR_COLUMNS) {
      Fragments near{Fragments::at(columns, j), columns.steps};
      multiply_fragments(m, minimum(NEAR_COLUMNS, product.n - j), rows, near, product.c + begin * product.ldc + j, product.ldc,
                         product.accumulate || p > 0);
    }
  }
}

static void multiply_dense(const DenseProduct& product) {
  constexpr isize GROUP = 8 * EDGE, BLOCK = 256;  // columns packed by one task, and rows of one task, at most
  isize n = product.n, k = product.k, groups = (n + GROUP - 1) / GROUP;
  f32* packed = scratch(SLOT_SHARED, fragment_floats(n, round_up(k, STEP)));
  parallel_for(groups * ((k + DEEP - 1) / DEEP), [&](isize task) {
    isize p = task / groups * DEEP, first = task % groups * GROUP, depth = minimum(DEEP, k - p);
    Fragments columns{(bf16*)(packed + fragment_floats(n, p)), steps_of(depth)};
    pack_b({Fragments::at(columns, first), columns.steps}, product.b, p, depth, first, minimum(GROUP, n - first));
  });
  each_row_block(product.m, SIDE, BLOCK, [&](isize begin, isize end) { multiply_block(product, packed, begin, end); });
}

}  // namespace fragment_products
