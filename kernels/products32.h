// Products of rounded activations with weights in blocks of 32.
//
// The product of a block is a whole number, so only the sum over a row's blocks needs an order, and all paths keep the same
// one: block b belongs to chain b % LANES, a chain adds its blocks in rising order by one multiply-add each, and the chains
// are added as sum_halves adds lanes. So a token's result does not depend on the path, and neither on its company.
//   Streaming (few tokens): lanes are chains. LANES blocks, which lie side by side, are one step: the file is read once, in
//   order, at the speed of memory.
//   Panels (many tokens): lanes are rows. LANES rows are unpacked once for all tokens, and a lane goes through the chains one
//   after the other.
#pragma once
#include "packed.h"

typedef Rounding<32, 32> Rounding32;

// ---- streaming -----------------------------------------------------------------------------------------------------

// One token's activations at a step: what Weights::load gives low and high for, [4][2][VECTOR_BYTES], and LANES scales and
// sums.
struct Streamed32 {
  const i8* q;
  const f32* scales;
  const i32* sums;

  INLINE Streamed32 at(const f32* row, isize columns, isize step) {
    return {Rounding32::values(row) + step * LANES * 32, Rounding32::scales(row, columns) + step * LANES,
            Rounding32::sums(row, columns) + step * LANES};
  }
};

// The last step of a row whose blocks are no multiple of LANES, filled up with zeros.
struct LastStep32 {
  alignas(64) i8 q[LANES * 32];
  f32 scales[LANES];
  i32 sums[LANES];

  static void fill(LastStep32& step, const f32* row, isize columns) {
    memset(&step, 0, sizeof step);
    isize blocks = columns / 32, first = blocks / LANES * LANES;
    for (isize b = first; b < blocks; b++) {
      Place to = Place::of(b - first, LANES * 32);
      memcpy(step.q + to.offset, Rounding32::values(row) + b * 32, 16);
      memcpy(step.q + to.offset + to.upper, Rounding32::values(row) + b * 32 + 16, 16);
      step.scales[b - first] = Rounding32::scales(row, columns)[b];
      step.sums[b - first] = Rounding32::sums(row, columns)[b];
    }
  }
};

// LANES blocks from `blocks` on, for N tokens.
template <class W, int N>
INLINE void stream_step(const u8* blocks, const Streamed32 (&x)[N], vf (&sums)[N]) {
  constexpr isize BYTES = sizeof(typename W::Block);
  vi parts[N][4];
#pragma GCC unroll 4
  for (int p = 0; p < 4; p++) {
    vi low, high;
    W::load(blocks + p * BYTES, 4 * BYTES, low, high);
#pragma GCC unroll 4
    for (int t = 0; t < N; t++) {
      const i8* q = x[t].q + p * 2 * VECTOR_BYTES;
      parts[t][p] = two_products<W::SIGNED>(low, load_bytes(q), high, load_bytes(q + VECTOR_BYTES));
    }
  }
  vi heads = gather_ints(blocks, BYTES);
  vf scales = lower_f16(heads), minima = W::MINIMUM ? upper_f16(heads) : splat(0);
#pragma GCC unroll 4
  for (int t = 0; t < N; t++) {
    vi whole = sum_pieces(parts[t]), total = load_bytes(x[t].sums);
    vf own = load(x[t].scales);
    if (W::OFFSET != 0) whole -= W::OFFSET * total;
    sums[t] = fused(as_floats(whole), scales * own, sums[t]);
    if (W::MINIMUM) sums[t] = fused(minima, own * as_floats(total), sums[t]);
  }
}

// y[t * ldy + r] for `count` rows and N tokens.
template <class W, int N>
static void stream_tokens(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const* x, f32* y,
                          isize ldy) {
  constexpr isize BYTES = sizeof(typename W::Block), STEP_BYTES = LANES * BYTES;
  isize blocks = columns / 32, steps = blocks / LANES, rest = blocks % LANES * BYTES;
  LastStep32 ends[N];
  for (int t = 0; t < N && rest > 0; t++) LastStep32::fill(ends[t], x[t], columns);
  ask_ahead(rows, minimum(count * row_bytes, PREFETCH_BYTES));
  for (isize r = 0; r < count; r++, rows += row_bytes) {
    vf sums[N];
    for (int t = 0; t < N; t++) sums[t] = splat(0);
    const u8* place = rows;
    Streamed32 in[N];
    for (isize step = 0; step < steps; step++, place += STEP_BYTES) {
      ask_ahead(place + PREFETCH_BYTES, STEP_BYTES);
      for (int t = 0; t < N; t++) in[t] = Streamed32::at(x[t], columns, step);
      stream_step<W, N>(place, in, sums);
    }
    if (rest > 0) {
      u8 padded[STEP_BYTES] = {};
      memcpy(padded, place, (size_t)rest);
      for (int t = 0; t < N; t++) in[t] = {ends[t].q, ends[t].scales, ends[t].sums};
      stream_step<W, N>(padded, in, sums);
    }
    for (int t = 0; t < N; t++) y[t * ldy + r] = sum_halves(sums[t]);
  }
}

// ---- panels --------------------------------------------------------------------------------------------------------

// LANES rows unpacked, block after block in the order of the chains.
struct Panel32 {
  u8* values;   // [blocks][8][LANES][4]
  f32* scales;  // [blocks][LANES]
  f32* minima;  // [blocks][LANES]

  INLINE Panel32 of(isize columns) {
    isize unit = columns / 32 * LANES;
    f32 *memory = scratch(SLOT_A, unit * (8 + 2)), *scales = memory + unit * 8;
    return {(u8*)memory, scales, scales + unit};
  }
};

template <class W>
static void unpack_panel(const u8* rows, isize row_bytes, isize columns, const Panel32& panel) {
  constexpr isize BYTES = sizeof(typename W::Block);
  isize blocks = columns / 32, place = 0;
  for (isize i = 0; i < LANES; i++)
    for (isize b = chain_at(i); b < blocks; b += LANES, place++) {
      const u8* first = rows + b * BYTES;
      vi low[4], high[4];
      for (int p = 0; p < 4; p++) W::load(first + p * row_bytes, 4 * row_bytes, low[p], high[p]);
      if (TILES && W::OFFSET != 0)
        for (int p = 0; p < 4; p++) low[p] = lower_bytes(low[p], W::OFFSET), high[p] = lower_bytes(high[p], W::OFFSET);
      transpose_pieces(low);
      transpose_pieces(high);
      u8* values = panel.values + place * 8 * VECTOR_BYTES;
      for (int p = 0; p < 4; p++) {
        store_bytes(values + p * VECTOR_BYTES, low[p]);
        store_bytes(values + (4 + p) * VECTOR_BYTES, high[p]);
      }
      vi heads = gather_ints(first, row_bytes);
      store(panel.scales + place * LANES, lower_f16(heads));
      if (W::MINIMUM) store(panel.minima + place * LANES, upper_f16(heads));
    }
  if (TILES) finish_stores(panel.values);
}

template <class W, int N>
static void pack_tokens(const f32* const* x, isize columns, const PackedTokens<N>& packed) {
  isize blocks = columns / 32;
  for (int t = 0; t < N; t++) {
    const i8* q = Rounding32::values(x[t]);
    const f32* scales = Rounding32::scales(x[t], columns);
    const i32* sums = Rounding32::sums(x[t], columns);
    isize step = 0;
    for (isize i = 0; i < LANES; i++)
      for (isize b = chain_at(i); b < blocks; b += LANES, step++) {
        Place from = Place::of(b, columns);
        pack_bytes<N, 32, 16>(packed.q + step * N * 32, t, 0, q + from.offset);
        pack_bytes<N, 32, 16>(packed.q + step * N * 32, t, 16, q + from.offset + from.upper);
        packed.scales[step * N + t] = scales[b];
        if (W::MINIMUM) packed.minima[step * N + t] = scales[b] * (f32)sums[b];
        else packed.sums[step * N + t] = -W::OFFSET * sums[b];
      }
  }
}

// y[t * ldy + lane] of N tokens.
template <class W, int N>
static void panel_tokens(const Panel32& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy) {
  isize blocks = columns / 32, step = 0;
  ChainSums<N> sums;
  for (isize i = 0; i < LANES; i++) {
    vf chain[N];
    for (int t = 0; t < N; t++) chain[t] = splat(0);
    for (isize b = chain_at(i); b < blocks; b += LANES, step++) {
      const u8* values = panel.values + step * 8 * VECTOR_BYTES;
      const i8* q = x.q + step * N * 32;
      vi whole[N];
#pragma GCC unroll 12
      for (int t = 0; t < N; t++) whole[t] = W::OFFSET != 0 ? vi{} + x.sums[step * N + t] : vi{};
      // Weights of up to five bits.
      add_quads<W::SIGNED, 8, 4>(
          whole, [=](int k) INLINE_LAMBDA { return load_bytes(values + k * VECTOR_BYTES); },
          [=](int t, int k) INLINE_LAMBDA { return packed_four<N>(q, t, k); });
      vf scale = load(panel.scales + step * LANES), minimum = W::MINIMUM ? load(panel.minima + step * LANES) : splat(0);
#pragma GCC unroll 12
      for (int t = 0; t < N; t++) {
        chain[t] = fused(as_floats(whole[t]), scale * splat(x.scales[step * N + t]), chain[t]);
        if (W::MINIMUM) chain[t] = fused(minimum, splat(x.minima[step * N + t]), chain[t]);
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
static void tile_tokens(const Panel32& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy);
#endif

template <class W>
struct Products32 {
  typedef Rounding32 Rounded;

  // y[i * ldy + r] for rows 0 .. count of W and inputs i, each a rounded row.
  static void stream(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const* x, isize inputs, f32* y,
                     isize ldy) {
    in_groups<STREAMED_TOKENS>(inputs, [&](isize i, auto number) INLINE_LAMBDA {
      stream_tokens<W, decltype(number)::value>(rows, row_bytes, count, columns, x + i, y + i * ldy, ldy);
    });
  }

  // For multiply_packed.
  static constexpr isize BLOCK = 32;
  static Panel32 panel(isize columns) { return Panel32::of(columns); }
  template <int N>
  INLINE void pack(const f32* const* x, isize columns, const PackedTokens<N>& packed) {
    pack_tokens<W>(x, columns, packed);
  }
  INLINE void unpack(const u8* rows, isize row_bytes, isize columns, const Panel32& panel) {
    unpack_panel<W>(rows, row_bytes, columns, panel);
  }
  template <int N>
  INLINE void multiply(const Panel32& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy) {
#if defined(__AMX_INT8__)
    tile_tokens<Unpacked32<W>>(panel, columns, x, y, ldy);
#else
    panel_tokens<Unpacked32<W>>(panel, columns, x, y, ldy);
#endif
  }
};
