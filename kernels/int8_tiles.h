// The panel path on AMX: whole numbers from tiles of 8-bit products, the same as from any other instruction, and then the
// same steps in f32 in the same order. A tile multiplies up to 16 tokens with 16 rows of a panel over one step of k, a block
// of 32 or a sub-block; its products pass through memory, a few steps ahead of their use.
//
// Panels hold bytes with signs here: what a type subtracts from its values is subtracted when they are unpacked.
#pragma once
#include "products256.h"

// Tile 0 has the products of N tokens, 1 the tokens' bytes, 2 the weights': K bytes of each. The registers belong to a thread:
// who uses them sets them up and gives them back.
template <int N, int K>
struct ByteTiles {
  ByteTiles() {
    struct alignas(64) {
      uint8_t palette = 1, start = 0, reserved[14] = {};
      uint16_t bytes[16] = {64, K, 64};
      uint8_t lines[16] = {N, N, K / 4};
    } shape;
    finish_stores(&shape);
    _tile_loadconfig(&shape);
  }
  ~ByteTiles() { _tile_release(); }
};

// Steps by which the tiles are ahead: what they store has to leave the processor's queue of stores before it can be loaded.
constexpr isize STEPS_AHEAD = 3;

// Products of packed tokens with a panel, step by step.
template <int N, int K>
struct TileQueue {
  ByteTiles<N, K> tiles;
  const i8* tokens;
  const u8* weights;
  isize steps, next = 0;
  alignas(64) i32 products[STEPS_AHEAD + 1][N][16];

  TileQueue(const i8* tokens, const u8* weights, isize steps) : tokens(tokens), weights(weights), steps(steps) {
    finish_stores(tokens);
    for (isize s = 0; s < STEPS_AHEAD; s++) advance(*this);
  }
  INLINE void advance(TileQueue& queue) {
    isize s = queue.next++;
    if (s >= queue.steps) return;
    _tile_zero(0);
    _tile_loadd(1, queue.tokens + s * N * K, K);
    _tile_loadd(2, queue.weights + s * K * 16, 64);
    _tile_dpbssd(0, 1, 2);
    _tile_stored(0, queue.products[s % (STEPS_AHEAD + 1)], 64);
  }
  // The products of step s, asked for in rising order.
  INLINE const i32 (*take(TileQueue& queue, isize s))[16] {
    advance(queue);
    return queue.products[s % (STEPS_AHEAD + 1)];
  }
};

template <class W, int N>
static void tile_tokens(const Panel32& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy) {
  isize blocks = columns / 32, place = 0;
  TileQueue<N, 32> queue(x.q, panel.values, blocks);
  ChainSums<N> sums;
  for (isize i = 0; i < LANES; i++) {
    vf chain[N];
    for (int t = 0; t < N; t++) chain[t] = splat(0);
    for (isize b = chain_at(i); b < blocks; b += LANES, place++) {
      const i32(*products)[16] = queue.take(queue, place);
      vf scale = load(panel.scales + place * LANES), minimum = W::MINIMUM ? load(panel.minima + place * LANES) : splat(0);
#pragma GCC unroll 16
      for (int t = 0; t < N; t++) {
        chain[t] = fused(as_floats(load_bytes(products[t])), scale * splat(x.scales[place * N + t]), chain[t]);
        if (W::MINIMUM) chain[t] = fused(minimum, splat(x.minima[place * N + t]), chain[t]);
      }
    }
    ChainSums<N>::push(sums, i, chain);
  }
  for (int t = 0; t < N; t++) store(y + t * ldy, sums.levels[0][t]);
}

template <class W, int N>
static void tile_tokens256(const Panel256& panel, isize columns, const PackedTokens<N>& x, f32* y, isize ldy) {
  constexpr int SUBS = 256 / W::SUB;
  isize blocks = columns / 256, place = 0;
  TileQueue<N, W::SUB> queue(x.q, panel.values, blocks * SUBS);
  ChainSums<N> sums;
  for (isize i = 0; i < CHAINS256; i++) {
    vf chain[N];
    for (int t = 0; t < N; t++) chain[t] = splat(0);
    for (isize b = chain256_at(i); b < blocks; b += CHAINS256, place++) {
      vi whole[N] = {};
      for (int j = 0; j < SUBS; j++) {
        const i32(*products)[16] = queue.take(queue, place * SUBS + j);
        vi factor = load_bytes(panel.factors + (place * SUBS + j) * LANES);
#pragma GCC unroll 16
        for (int t = 0; t < N; t++) whole[t] += load_bytes(products[t]) * factor;
      }
      vf scale = load(panel.scales + place * LANES), minimum = W::MINIMUM ? load(panel.minima + place * LANES) : splat(0);
#pragma GCC unroll 16
      for (int t = 0; t < N; t++) {
        vi correction{};
#pragma GCC unroll 8
        for (int j = 0; j < SUBS / 2; j++) {
          isize at = place * (SUBS / 2) + j;
          correction = add_scaled_pairs(correction, load_bytes(panel.corrections + at * LANES), vi{} + x.sums[at * N + t]);
        }
        if (W::OFFSET != 0) whole[t] -= W::OFFSET * correction;
        vf own = splat(x.scales[place * N + t]);
        chain[t] = fused(as_floats(whole[t]), scale * own, chain[t]);
        if (W::MINIMUM) chain[t] = fused(as_floats(correction), -(minimum * own), chain[t]);
      }
    }
    ChainSums<N>::push(sums, i, chain);
  }
  for (int t = 0; t < N; t++) store(y + t * ldy, sums.levels[0][t]);
}
