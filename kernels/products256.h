// Products of rounded activations with weights in blocks of 256. See products32.h: the same two paths and the same rule, with
// block b in chain b % 4. The product of a whole block, its sub-blocks times their scales, is one whole number; so is that of
// its minima (or of the offset of its values) and the sums of the activations.
#pragma once
#include "products32.h"

constexpr isize CHAINS256 = 4;

// ---- streaming -----------------------------------------------------------------------------------------------------

#if defined(__AVX2__)
// The pairs (scale, scale) that the lanes of vector c of a block's values need.
template <class W>
INLINE vi lane_scales(const Factors<W>& factors, int c) {
#if defined(__AVX512F__)
  const __m512i lanes = _mm512_srli_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                          W::SUB == 32 ? 3 : 2);
  return (vi)_mm512_permutexvar_epi32(_mm512_add_epi32(lanes, _mm512_set1_epi32(c * 64 / W::SUB)),
                                      _mm512_load_si512(factors.scale));
#else
  if (W::SUB == 32) return vi{} + factors.scale[c];
  i32 a = factors.scale[2 * c], b = factors.scale[2 * c + 1];
  return vi{a, a, a, a, b, b, b, b};
#endif
}
INLINE vi add_scaled_pairs(vi sum, vi pairs, vi scales) {
#if defined(__AVX512VNNI__)
  return (vi)_mm512_dpwssd_epi32((__m512i)sum, (__m512i)pairs, (__m512i)scales);
#else
  return sum + multiply_pairs(pairs, scales);
#endif
}
#endif

// sum += the products of vector c of a block's values with x, times their scales.
template <class W>
INLINE vi add_scaled(vi sum, vi values, vi x, const Factors<W>& factors, int c) {
#if defined(__AVX2__)
  return add_scaled_pairs(sum, byte_pairs(values, x), lane_scales(factors, c));
#else
  return sum + add_products<false>(vi{}, values, x) * (factors.scale[c * VECTOR_BYTES / W::SUB] >> 16);
#endif
}

// The sum of the corrections times the sums of the activations.
template <class W>
INLINE quad_ints corrections(const Factors<W>& factors, const i16* sums) {
  auto at = [](const i16* p) INLINE_LAMBDA { return *(const quad_ints_unaligned*)p; };
  quad_ints all = multiply_quad_pairs(at(factors.correction), at(sums));
  if (W::SUB == 16) all += multiply_quad_pairs(at(factors.correction + 8), at(sums + 8));
  return all;
}

// A row's part of four blocks, or `some` of them, for N tokens; x are rounded rows, `first` the number of the first block.
template <class W, int N>
INLINE void stream_four(const typename W::Block* blocks, isize some, const f32* const (&x)[N], isize first, isize columns,
                        quad (&sums)[N]) {
  typedef Rounding<256, W::SUB> Rounded;
  constexpr int VECTORS = 256 / VECTOR_BYTES, RUNS = 256 / W::SUB;
  vi parts[N][4] = {};
  quad_ints corrected[N][4] = {};
  quad scales = {}, minima = {};
#pragma GCC unroll 4
  for (int p = 0; p < 4; p++) {
    if (p >= some) break;
    const auto& block = blocks[p];
    Factors<W> factors;
    read_factors(block, factors);
#pragma GCC unroll 4
    for (int c = 0; c < VECTORS; c++) {
      vi values = W::values(block, c);
#pragma GCC unroll 4
      for (int t = 0; t < N; t++)
        parts[t][p] = add_scaled(parts[t][p], values, load_bytes(Rounded::values(x[t]) + (first + p) * 256 + c * VECTOR_BYTES),
                                 factors, c);
    }
#pragma GCC unroll 4
    for (int t = 0; t < N; t++) corrected[t][p] = corrections(factors, Rounded::sums(x[t], columns) + (first + p) * RUNS);
    scales[p] = f16_to_f32(block.scale);
    if constexpr (W::MINIMUM) minima[p] = f16_to_f32(block.minimum);
  }
#pragma GCC unroll 4
  for (int t = 0; t < N; t++) {
    quad_ints whole = add_pieces(sum_pieces(parts[t])), correction = quad_sums(corrected[t]);
    const f32* from = Rounded::scales(x[t], columns) + first;
    quad own = {};
    if (some >= 4) memcpy(&own, from, sizeof own);
    else memcpy(&own, from, (size_t)some * sizeof(f32));
    if (W::OFFSET != 0) whole -= W::OFFSET * correction;
    sums[t] = fused4(__builtin_convertvector(whole, quad), scales * own, sums[t]);
    if (W::MINIMUM) sums[t] = fused4(__builtin_convertvector(correction, quad), -(minima * own), sums[t]);
  }
}

// y[t * ldy + r] for `count` rows and N tokens.
template <class W, int N>
static void stream_tokens256(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const (&x)[N], f32* y,
                             isize ldy) {
  constexpr isize FOUR_BYTES = 4 * sizeof(typename W::Block);
  isize blocks = columns / 256;
  ask_ahead(rows, minimum(count * row_bytes, PREFETCH_BYTES));
  for (isize r = 0; r < count; r++, rows += row_bytes) {
    quad sums[N] = {};
    for (isize b = 0; b < blocks; b += 4) {
      const u8* place = rows + b * (isize)sizeof(typename W::Block);
      ask_ahead(place + PREFETCH_BYTES, FOUR_BYTES);
      stream_four<W, N>((const typename W::Block*)place, minimum(4, blocks - b), x, b, columns, sums);
    }
    for (int t = 0; t < N; t++) y[t * ldy + r] = (sums[t][0] + sums[t][2]) + (sums[t][1] + sums[t][3]);
  }
}

// ---- panels --------------------------------------------------------------------------------------------------------

// LANES rows unpacked, block after block in the order of the chains.
struct Panel256 {
  u8* values;        // [blocks][64][LANES][4]
  i32* factors;      // [blocks][subs][LANES]
  i32* corrections;  // [blocks][subs / 2][LANES]: pairs of 16 bits
  f32* scales;       // [blocks][LANES]
  f32* minima;       // [blocks][LANES]

  INLINE Panel256 of(isize columns, isize subs) {
    isize unit = columns / 256 * LANES, ints_end = unit * (64 + subs + subs / 2);
    f32 *memory = scratch(SLOT_A, ints_end + unit * 2), *scales = memory + ints_end;
    i32* ints = (i32*)memory + unit * 64;
    return {(u8*)memory, ints, ints + unit * subs, scales, scales + unit};
  }
};

// Order of the blocks: chain 0, 2, 1, 3.
INLINE isize chain256_at(isize i) { return i % 2 * 2 + i / 2; }

template <class W>
static void unpack_panel256(const u8* rows, isize row_bytes, isize columns, const Panel256& panel) {
  typedef typename W::Block Block;
  constexpr int SUBS = 256 / W::SUB;
  alignas(64) u8 stage[LANES][256];
  isize blocks = columns / 256, place = 0;
  for (isize i = 0; i < CHAINS256; i++)
    for (isize b = chain256_at(i); b < blocks; b += CHAINS256, place++) {
      for (int lane = 0; lane < LANES; lane++) {
        const Block& block = ((const Block*)(rows + lane * row_bytes))[b];
        for (int c = 0; c < 256 / VECTOR_BYTES; c++) store_bytes(stage[lane] + c * VECTOR_BYTES, W::values(block, c));
        Factors<W> factors;
        read_factors(block, factors);
        for (int j = 0; j < SUBS; j++) panel.factors[(place * SUBS + j) * LANES + lane] = factors.scale[j] >> 16;
        for (int j = 0; j < SUBS / 2; j++)
          panel.corrections[(place * (SUBS / 2) + j) * LANES + lane] = read_i32(factors.correction + 2 * j);
        panel.scales[place * LANES + lane] = f16_to_f32(block.scale);
        if constexpr (W::MINIMUM) panel.minima[place * LANES + lane] = f16_to_f32(block.minimum);
      }
      for (int k = 0; k < 16; k++) {
        vi part[4];
        for (int p = 0; p < 4; p++) part[p] = gather_pieces(stage[p] + k * 16, 4 * 256);
        transpose_pieces(part);
        for (int p = 0; p < 4; p++) store_bytes(panel.values + ((place * 16 + k) * 4 + p) * VECTOR_BYTES, part[p]);
      }
    }
  if (TILES) finish_stores(panel.values);
}

template <class W, int N>
static void pack_tokens256(const f32* const* x, isize columns, const PackedTokens<N>& packed) {
  typedef Rounding<256, W::SUB> Rounded;
  constexpr int SUBS = 256 / W::SUB;
  isize blocks = columns / 256, place = 0;
  for (isize i = 0; i < CHAINS256; i++)
    for (isize b = chain256_at(i); b < blocks; b += CHAINS256, place++)
      for (int t = 0; t < N; t++) {
        const i8* q = Rounded::values(x[t]) + b * 256;
        const i16* sums = Rounded::sums(x[t], columns) + b * SUBS;
        for (int j = 0; j < SUBS; j++)
          pack_bytes<N, W::SUB, W::SUB>(packed.q + (place * SUBS + j) * N * W::SUB, t, 0, q + j * W::SUB);
        for (int j = 0; j < SUBS / 2; j++) packed.sums[(place * (SUBS / 2) + j) * N + t] = read_i32(sums + 2 * j);
        packed.scales[place * N + t] = Rounded::scales(x[t], columns)[b];
      }
}

// y[t * ldy + lane] of N tokens.
template <class W, int N>
static void panel_tokens256(const Panel256& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy) {
  constexpr int SUBS = 256 / W::SUB;
  isize blocks = columns / 256, place = 0;
  ChainSums<N> sums;
  for (isize i = 0; i < CHAINS256; i++) {
    vf chain[N];
    for (int t = 0; t < N; t++) chain[t] = splat(0);
    for (isize b = chain256_at(i); b < blocks; b += CHAINS256, place++) {
      vi whole[N] = {}, correction[N] = {};
      for (int j = 0; j < SUBS; j++) {
        vi part[N] = {};
        isize step = place * SUBS + j;
        const u8* values = panel.values + step * (W::SUB / 4) * VECTOR_BYTES;
        const i8* q = x.q + step * N * W::SUB;
        // Weights of up to five bits where there is a minimum, of six elsewhere.
        add_quads<false, W::SUB / 4, W::MINIMUM ? 4 : 2>(
            part, [=](int k) INLINE_LAMBDA { return load_bytes(values + k * VECTOR_BYTES); },
            [=](int t, int k) INLINE_LAMBDA { return packed_four<N>(q, t, k); });
        vi factor = load_bytes(panel.factors + step * LANES);
#pragma GCC unroll 12
        for (int t = 0; t < N; t++) whole[t] += part[t] * factor;
      }
      for (int j = 0; j < SUBS / 2; j++) {
        isize at = place * (SUBS / 2) + j;
        vi pairs = load_bytes(panel.corrections + at * LANES);
#pragma GCC unroll 12
        for (int t = 0; t < N; t++) correction[t] += multiply_pairs(pairs, vi{} + x.sums[at * N + t]);
      }
      vf scale = load(panel.scales + place * LANES), minimum = W::MINIMUM ? load(panel.minima + place * LANES) : splat(0);
#pragma GCC unroll 12
      for (int t = 0; t < N; t++) {
        vf own = splat(x.scales[place * N + t]);
        if (W::OFFSET != 0) whole[t] -= W::OFFSET * correction[t];
        chain[t] = fused(as_floats(whole[t]), scale * own, chain[t]);
        if (W::MINIMUM) chain[t] = fused(as_floats(correction[t]), -(minimum * own), chain[t]);
      }
    }
    ChainSums<N>::push(sums, i, chain);
  }
  for (int t = 0; t < N; t++) store(y + t * ldy, sums.levels[0][t]);
}

// ---- both ----------------------------------------------------------------------------------------------------------

#if defined(__AMX_INT8__)
// int8_tiles.h
template <class W, int N>
static void tile_tokens256(const Panel256& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy);
#endif

template <class W>
struct Products256 {
  typedef Rounding<256, W::SUB> Rounded;

  static void stream(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const* x, isize inputs, f32* y,
                     isize ldy) {
    in_groups<STREAMED_TOKENS>(inputs, [&](isize i, auto number) INLINE_LAMBDA {
      constexpr int N = decltype(number)::value;
      const f32* order[N];
      for (int t = 0; t < N; t++) order[t] = x[i + t];
      stream_tokens256<W, N>(rows, row_bytes, count, columns, order, y + i * ldy, ldy);
    });
  }

  // For multiply_packed.
  static constexpr isize BLOCK = 256;
  static Panel256 panel(isize columns) { return Panel256::of(columns, 256 / W::SUB); }
  template <int N>
  INLINE void pack(const f32* const* x, isize columns, const PackedTokens<N>& packed) {
    pack_tokens256<W>(x, columns, packed);
  }
  INLINE void unpack(const u8* rows, isize row_bytes, isize columns, const Panel256& panel) {
    unpack_panel256<W>(rows, row_bytes, columns, panel);
  }
  template <int N>
  INLINE void multiply(const Panel256& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy) {
#if defined(__AMX_INT8__)
    tile_tokens256<Unpacked256<W>>(panel, columns, x, y, ldy);
#else
    panel_tokens256<Unpacked256<W>>(panel, columns, x, y, ldy);
#endif
  }
};
