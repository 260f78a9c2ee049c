// Products of f32 activations with weights of any type: F32, F16 and BF16 are widened on the way, the others decoded to f32
// first. One order of sums for all paths: vector c of a row's columns belongs to chain c % 4, a chain adds its vectors in
// rising order, the chains are added as ((0 + 2) + (1 + 3)), and the lanes as sum_halves does.
#pragma once
#include "quantised.h"
#include "tile.h"

constexpr int CHAINS = 4;
// Rows and tokens of one tile: a sum for each pair of them.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILE_ROWS = 4, DOT_TOKENS = 4;
#else
constexpr int TILE_ROWS = 4, DOT_TOKENS = 2;
#endif
// Inputs up to which a row of halves is widened in registers, instead of once in memory for all.
constexpr isize WIDENED_TOKENS = 3;
// Inputs from which on unpacking rows in panels is the quicker way.
constexpr isize PANEL_TOKENS = 16;
// Rows that are decoded at a time: they stay in the second cache while all inputs pass.
constexpr isize DECODED_ROWS = 64;

INLINE vf load_values(const BlockF32* p) { return load_packed(p); }
INLINE vf load_values(const BlockF16* p) { return load_f16(p); }
INLINE vf load_values(const BlockBF16* p) { return load_bf16(p); }

// Up to LANES of them, the others zero.
template <class Block>
INLINE vf load_values(const Block* p, isize n) {
  if (n >= LANES) return load_values(p);
  Block some[LANES] = {};
  memcpy(some, p, (size_t)n * sizeof(Block));
  return load_values(some);
}

// y[t * ldy + r] for `count` rows and N tokens, weights as they are stored.
template <class Block, int N>
static void dot_stream(const Block* rows, isize count, isize columns, const f32* const* x, f32* y, isize ldy) {
  constexpr isize STEP = CHAINS * LANES;
  ask_ahead((const u8*)rows, minimum(count * columns * (isize)sizeof(Block), PREFETCH_BYTES));
  for (isize r = 0; r < count; r++, rows += columns) {
    vf sums[N][CHAINS] = {};
    isize k = 0;
    for (; k + STEP <= columns; k += STEP) {
      ask_ahead((const u8*)(rows + k) + PREFETCH_BYTES, STEP * (isize)sizeof(Block));
#pragma GCC unroll 4
      for (int c = 0; c < CHAINS; c++) {
        vf w = load_values(rows + k + c * LANES);
#pragma GCC unroll 4
        for (int t = 0; t < N; t++) sums[t][c] = fused(w, load(x[t] + k + c * LANES), sums[t][c]);
      }
    }
    for (int c = 0; k < columns; k += LANES, c++) {
      vf w = load_values(rows + k, columns - k);
      for (int t = 0; t < N; t++) sums[t][c] = fused(w, load_n(x[t] + k, minimum(LANES, columns - k)), sums[t][c]);
    }
    for (int t = 0; t < N; t++) y[t * ldy + r] = sum_halves((sums[t][0] + sums[t][2]) + (sums[t][1] + sums[t][3]));
  }
}

// y[t * ldy + r] for R rows of f32 and N tokens.
template <int R, int N>
static void dot_tile(const f32* rows, isize columns, const f32* const* x, f32* y, isize ldy) {
  vf totals[2][R][N];
  for (int first = 0; first < 2; first++)
    for (int half = 0; half < 2; half++) {
      vf sums[R][N] = {};
      isize k = (first + 2 * half) * LANES;
      for (; k + LANES <= columns; k += CHAINS * LANES) {
        vf in[N];
#pragma GCC unroll 4
        for (int t = 0; t < N; t++) in[t] = load(x[t] + k);
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) {
          vf w = load(rows + r * columns + k);
#pragma GCC unroll 4
          for (int t = 0; t < N; t++) sums[r][t] = fused(w, in[t], sums[r][t]);
        }
      }
      if (k < columns)
        for (int r = 0; r < R; r++)
          for (int t = 0; t < N; t++)
            sums[r][t] = fused(load_some(rows + r * columns + k, columns - k), load_some(x[t] + k, columns - k), sums[r][t]);
      for (int r = 0; r < R; r++)
        for (int t = 0; t < N; t++) totals[first][r][t] = half == 0 ? sums[r][t] : totals[first][r][t] + sums[r][t];
    }
  for (int r = 0; r < R; r++)
    for (int t = 0; t < N; t++) y[t * ldy + r] = sum_halves(totals[0][r][t] + totals[1][r][t]);
}

// ---- panels --------------------------------------------------------------------------------------------------------

// A lane of a chain has every PLACES'th column. In panels lanes are rows, and an output's PLACES sums follow one another.
constexpr isize PLACES = CHAINS * LANES;
INLINE isize place_at(isize i) { return (i % 2 * 2 + i / 2 % 2) * LANES + chain_at(i / CHAINS); }

// panel[place * stride + step * NR + r] = row r's value in that place and step, for up to NR rows. A few rows and a line's worth
// of places at a time; distances are no multiples of 4 KB, at which lines push each other out of the cache.
template <class Block>
static void unpack_places(const u8* rows, isize row_bytes, isize count, isize columns, f32* panel, isize stride) {
  constexpr isize ROWS = 16, LINE = 16;
  isize steps = (columns + PLACES - 1) / PLACES, ld = steps * PLACES + LINE;
  f32* decoded = scratch(SLOT_A, ROWS * ld);
  memset(decoded, 0, (size_t)(ROWS * ld) * sizeof(f32));
  for (isize first = 0; first < count; first += ROWS) {
    isize some = minimum(ROWS, count - first);
    for (isize r = 0; r < some; r++) decode_blocks((const Block*)(rows + (first + r) * row_bytes), decoded + r * ld, columns);
    for (isize begin = 0; begin < PLACES; begin += LINE)
      for (isize j = 0; j < steps; j++)
        for (isize p = begin; p < begin + LINE; p += 4)
          for (isize r = 0; r < some; r += 4)
            transpose4(decoded + r * ld + j * PLACES + p, ld, panel + p * stride + j * NR + first + r, stride);
  }
}

// y[i * ldy + r] for `count` rows of any type, NR at a time for all inputs.
template <class Block>
static void dot_panels(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const* x, isize inputs,
                       f32* y, isize ldy) {
  isize steps = (columns + PLACES - 1) / PLACES, ld = steps * PLACES, stride = steps * NR + LANES;
  f32 *in = scratch(SLOT_C, inputs * ld), *panel = scratch(SLOT_B, PLACES * stride);
  for (isize i = 0; i < inputs; i++)
    for (isize p = 0; p < PLACES; p++)
      for (isize j = 0; j < steps; j++)
        in[i * ld + p * steps + j] = j * PLACES + p < columns ? x[i][j * PLACES + p] : 0;
  for (isize first = 0; first < count; first += NR) {
    isize some = minimum(NR, count - first);
    unpack_places<Block>(rows + first * row_bytes, row_bytes, some, columns, panel, stride);
    for (isize i = 0; i < inputs; i += MR) {
      isize m = minimum(MR, inputs - i);
      ChainSums<MR * NV> sums;
      for (isize s = 0; s < PLACES; s++) {
        isize place = place_at(s);
        vf tile[MR][NV] = {};
        multiply_tile<NV>(rows_of(in + i * ld + place * steps, ld, m), panel + place * stride, NR, steps, tile);
        ChainSums<MR * NV>::push(sums, s, *(vf(*)[MR * NV])tile);
      }
      for (isize t = 0; t < m; t++)
        for (isize v = 0; v < NV && v * LANES < some; v++)
          store_n(y + (i + t) * ldy + first + v * LANES, sums.levels[0][t * NV + v], minimum(LANES, some - v * LANES));
    }
  }
}

// y[i * ldy + r] for `count` rows of any type, and all inputs.
template <class Block>
static void dot_rows(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const* x, isize inputs, f32* y,
                     isize ldy) {
  if constexpr (Block::VALUES == 1)
    if (inputs <= WIDENED_TOKENS) {
      in_groups<2>(inputs, [&](isize i, auto number) INLINE_LAMBDA {
        dot_stream<Block, decltype(number)::value>((const Block*)rows, count, columns, x + i, y + i * ldy, ldy);
      });
      return;
    }
  if (inputs >= PANEL_TOKENS) return dot_panels<Block>(rows, row_bytes, count, columns, x, inputs, y, ldy);
  f32* decoded = scratch(SLOT_A, DECODED_ROWS * columns);
  for (isize first = 0; first < count; first += DECODED_ROWS) {
    isize some = minimum(DECODED_ROWS, count - first);
    for (isize r = 0; r < some; r++)
      decode_blocks((const Block*)(rows + (first + r) * row_bytes), decoded + r * columns, columns);
    in_groups<DOT_TOKENS>(inputs, [&](isize i, auto number) INLINE_LAMBDA {
      constexpr int N = decltype(number)::value;
      f32* out = y + i * ldy + first;
      isize r = 0;
      for (; r + TILE_ROWS <= some; r += TILE_ROWS) dot_tile<TILE_ROWS, N>(decoded + r * columns, columns, x + i, out + r, ldy);
      for (; r < some; r++) dot_tile<1, N>(decoded + r * columns, columns, x + i, out + r, ldy);
    });
  }
}
