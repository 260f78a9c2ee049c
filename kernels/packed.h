// The panel path of products of rounded activations, as far as blocks of 32 and of 256 share it: tokens are packed once, and
// LANES rows at a time are unpacked for all of them. Packed tokens and panels are both read from front to back.
#pragma once
#include "quantised.h"

// N rounded rows in the order of the chains. A step is what one product of bytes takes: a block of 32, or a sub-block, K bytes.
template <int N>
struct PackedTokens {
  i8* q;        // [steps][N][K] for tiles, [steps][K / 4][N][4] elsewhere
  f32* scales;  // [blocks][N]
  // One of these, where there is any:
  f32* minima;  // [blocks][N], of blocks of 32 with a minimum: scale * sum
  i32* sums;    // [blocks][N], of blocks of 32 with an offset: -offset * sum; [blocks][SUBS / 2][N], of 256: pairs of 16 bits

  INLINE PackedTokens in(f32* memory, isize columns, isize blocks) {
    f32 *scales = memory + N * columns / 4, *rest = scales + N * blocks;
    return {(i8*)memory, scales, rest, (i32*)rest};
  }
};

// BYTES bytes of token t, from byte k of a step on.
template <int N, int K, int BYTES>
INLINE void pack_bytes(i8* step, int t, int k, const i8* from) {
  if constexpr (TILES) memcpy(step + t * K + k, from, BYTES);
  else
    for (int i = 0; i < BYTES; i += 4) memcpy(step + (k + i) * N + t * 4, from + i, 4);
}
// Of packed tokens outside of tiles, bytes 4 k and following of a step as a lane.
template <int N>
INLINE i32 packed_four(const i8* step, int t, int k) {
  return read_i32(step + (k * N + t) * 4);
}

// y[i * ldy + r] for a multiple of LANES rows and all inputs, each a rounded row. A family of products has BLOCK and
//   panel(columns): memory for a panel;
//   pack(x, columns, packed): packs N tokens;
//   unpack(rows, row_bytes, columns, panel);
//   multiply(panel, columns, packed, y, ldy): y[t * ldy + lane].
template <class Products>
static void multiply_packed(const u8* rows, isize row_bytes, isize count, isize columns, const f32* const* x, isize inputs,
                            f32* y, isize ldy) {
  isize unit = rounded_floats(columns), bytes = LANES * row_bytes;
  f32* memory = scratch(SLOT_C, inputs * unit);
  auto packed = [=](isize i, auto number) INLINE_LAMBDA {
    return PackedTokens<decltype(number)::value>::in(memory + i * unit, columns, columns / Products::BLOCK);
  };
  in_groups<TILE_TOKENS>(inputs, [&](isize i, auto number) INLINE_LAMBDA {
    Products::pack(x + i, columns, packed(i, number));
    finish_stores(memory);
  });
  auto panel = Products::panel(columns);
  for (isize r = 0; r < count; r += LANES) {
    const u8* next = rows + (r + LANES) * row_bytes;
    Products::unpack(rows + r * row_bytes, row_bytes, columns, panel);
    in_groups<TILE_TOKENS>(inputs, [&](isize i, auto number) INLINE_LAMBDA {
      constexpr int N = decltype(number)::value;
      // Unpacking would wait for memory line by line, and storing too: what they will need comes meanwhile, bit by bit.
      isize from = bytes * i / inputs, to = bytes * (i + N) / inputs;
      ask_ahead(next + from, to - from);
      f32* out = y + i * ldy + r;
      for (int t = 0; t < N; t++) __builtin_prefetch(out + t * ldy + 64 / sizeof(f32), 1);
      Products::multiply(panel, columns, packed(i, number), out, ldy);
    });
  }
}
