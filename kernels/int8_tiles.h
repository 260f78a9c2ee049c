// The panel path on AMX: whole numbers from tiles of 8-bit products, the same as from any other instruction, and then the
// same steps in f32 in the same order. A tile multiplies up to 16 tokens with 16 rows of a panel over one block (or
// sub-block) of k; its products pass through memory, one step ahead of their use.
//
// Panels hold bytes with signs here: what a type subtracts from its values is subtracted when they are unpacked.
#pragma once
#include "products256.h"

// Tile 0 has the products of N tokens, 1 the tokens' bytes, 2 the weights': K bytes of each. The registers belong to a thread:
// each call sets them up and gives them back.
template <int N, int K>
struct ByteTiles {
  ByteTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, K, 64};
      uint8_t lines[16] = {N, N, K / 4};
    } shape;
    _tile_loadconfig(&shape);
  }
  ~ByteTiles() { _tile_release(); }

  // products[t][lane] of tokens that are `stride` bytes apart.
  INLINE void multiply(const i8* tokens, isize stride, const u8* weights, i32* products) {
    _tile_zero(0);
    _tile_loadd(1, tokens, stride);
    _tile_loadd(2, weights, 64);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, products, 64);
  }
};

template <class W, int N>
static void tile_tokens(const Panel32& panel, isize columns, const f32* const* x, f32* y, isize ldy) {
  ByteTiles<N, 32> tiles;
  isize blocks = columns / 32, stride = N > 1 ? (const i8*)x[1] - (const i8*)x[0] : 0;
  const i8* q = Rounding32::values(x[0]);
  isize scales_at = columns, sums_at = columns + blocks * (isize)sizeof(f32);  // bytes
  alignas(64) i32 products[2][N][16];
  // The block that is multiplied next, and its chain.
  isize next_chain = 0, next = 0, next_place = 0;
  auto multiply_next = [&]() INLINE_LAMBDA {
    while (next >= blocks && next_chain + 1 < LANES) next = chain_at(++next_chain);
    if (next >= blocks) return;
    tiles.multiply(q + next * 32, stride, panel.values + next_place * 8 * VECTOR_BYTES, products[next_place % 2][0]);
    next += LANES, next_place++;
  };
  multiply_next();
  ChainSums<N> sums;
  isize place = 0;
  for (isize i = 0; i < LANES; i++) {
    vf chain[N];
    for (int t = 0; t < N; t++) chain[t] = splat(0);
    for (isize b = chain_at(i); b < blocks; b += LANES, place++) {
      multiply_next();
      vf scale = load(panel.scales + place * LANES), minimum = W::MINIMUM ? load(panel.minima + place * LANES) : splat(0);
      const i8* own = q + b * 4;
#pragma GCC unroll 16
      for (int t = 0; t < N; t++, own += stride) {
        vi whole = load_bytes(products[place % 2][t]);
        f32 token_scale;
        memcpy(&token_scale, own + scales_at, sizeof token_scale);
        chain[t] = fused(as_floats(whole), scale * splat(token_scale), chain[t]);
        if (W::MINIMUM) chain[t] = fused(minimum, splat(token_scale * (f32)read_i32(own + sums_at)), chain[t]);
      }
    }
    ChainSums<N>::push(sums, i, chain);
  }
  for (int t = 0; t < N; t++) store(y + t * ldy, sums.levels[0][t]);
}

template <class W, int N>
static void tile_tokens256(const Panel256& panel, isize columns, const f32* const* x, f32* y, isize ldy) {
  typedef Rounding<256, W::SUB> Rounded;
  constexpr int SUBS = 256 / W::SUB;
  ByteTiles<N, W::SUB> tiles;
  isize blocks = columns / 256, stride = N > 1 ? (const i8*)x[1] - (const i8*)x[0] : 0, place = 0;
  const i8* q = Rounded::values(x[0]);
  isize scales_at = columns, sums_at = columns + blocks * (isize)sizeof(f32);  // bytes
  alignas(64) i32 products[2][N][16];
  ChainSums<N> sums;
  for (isize i = 0; i < CHAINS256; i++) {
    vf chain[N];
    for (int t = 0; t < N; t++) chain[t] = splat(0);
    for (isize b = chain256_at(i); b < blocks; b += CHAINS256, place++) {
      vi whole[N] = {};
      auto multiply = [&](int j) INLINE_LAMBDA {
        tiles.multiply(q + b * 256 + j * W::SUB, stride, panel.values + (place * 64 + j * (W::SUB / 4)) * VECTOR_BYTES,
                       products[j % 2][0]);
      };
      multiply(0);
      for (int j = 0; j < SUBS; j++) {
        if (j + 1 < SUBS) multiply(j + 1);
        vi factor = load_bytes(panel.factors + (place * SUBS + j) * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < N; t++) whole[t] += load_bytes(products[j % 2][t]) * factor;
      }
      vf scale = load(panel.scales + place * LANES), minimum = W::MINIMUM ? load(panel.minima + place * LANES) : splat(0);
      const i8* own = q;
#pragma GCC unroll 16
      for (int t = 0; t < N; t++, own += stride) {
        vi correction{};
#pragma GCC unroll 8
        for (int j = 0; j < SUBS / 2; j++)
          correction = add_scaled_pairs(correction, load_bytes(panel.corrections + (place * (SUBS / 2) + j) * LANES),
                                        vi{} + read_i32(own + sums_at + (b * SUBS + 2 * j) * 2));
        f32 token_scale;
        memcpy(&token_scale, own + scales_at + b * 4, sizeof token_scale);
        if (W::OFFSET != 0) whole[t] -= W::OFFSET * correction;
        chain[t] = fused(as_floats(whole[t]), scale * splat(token_scale), chain[t]);
        if (W::MINIMUM) chain[t] = fused(as_floats(correction), -(minimum * splat(token_scale)), chain[t]);
      }
    }
    ChainSums<N>::push(sums, i, chain);
  }
  for (int t = 0; t < N; t++) store(y + t * ldy, sums.levels[0][t]);
}
