// From f32 to the blocks of storage.h, by the steps of GGML's reference quantisers (ggml-quants.c, without importance
// weights), so that the bytes are theirs. The steps are strict f32: each product is rounded before it is added to.
//
// A lane is a block, or a sub-block of a block of 256: each goes through its values in order, as the reference does, and
// LANES of them do so at once. quantise_k.h has the blocks of 256.
#pragma once
#include "quantise_k.h"

// ---- blocks of 32 --------------------------------------------------------------------------------------------------

// What a block's search gives: the scale as stored, its inverse, and what is taken from a value before it is scaled.
struct Fit32 {
  vf scale, inverse, offset;
};

INLINE vf inverse_or_zero(vf x) { return choose(x != splat(0), splat(1) / x, splat(0)); }

// The value of largest magnitude, the first of equal ones, gets the level -`levels`.
INLINE Fit32 fit_signed(const vf* x, f32 levels) {
  vf most = splat(0), extreme = splat(0);
  for (int i = 0; i < 32; i++) {
    vi larger = absolute(x[i]) > most;
    most = choose(larger, absolute(x[i]), most);
    extreme = choose(larger, x[i], extreme);
  }
  vf scale = extreme / splat(-levels);
  return {scale, inverse_or_zero(scale), splat(0)};
}
// The least value gets level 0 and the largest the level `levels`.
INLINE Fit32 fit_spread(const vf* x, f32 levels) {
  vf least = x[0], most = x[0];
  for (int i = 1; i < 32; i++) {
    least = choose(x[i] < least, x[i], least);
    most = choose(x[i] > most, x[i], most);
  }
  vf scale = (most - least) / splat(levels);
  return {scale, inverse_or_zero(scale), least};
}

// Not-a-number, which comes of a scale too small for its inverse to be finite, is the highest.
INLINE vf clamp_level(vf x, f32 low, f32 high) {
  return choose(x < splat(high), choose(x > splat(low), x, splat(low)), splat(high));
}

// Level of each value: rounded down after `rounding` is added, between 0 and `levels`.
INLINE vi level_below(vf x, const Fit32& fit, f32 rounding, f32 levels) {
  vf level = rounded((x - fit.offset) * fit.inverse) + splat(rounding);
  return to_whole(clamp_level(level, 0, levels));
}

INLINE Fit32 fit(const BlockQ4_0*, const vf* x) { return fit_signed(x, 8); }
INLINE Fit32 fit(const BlockQ4_1*, const vf* x) { return fit_spread(x, 15); }
INLINE Fit32 fit(const BlockQ5_0*, const vf* x) { return fit_signed(x, 16); }
INLINE Fit32 fit(const BlockQ5_1*, const vf* x) { return fit_spread(x, 31); }
INLINE Fit32 fit(const BlockQ8_0*, const vf* x) {
  vf most = splat(0);
  for (int i = 0; i < 32; i++) most = maximum(absolute(x[i]), most);
  vf scale = most / splat(127);
  return {scale, inverse_or_zero(scale), splat(0)};
}

INLINE vi level(const BlockQ4_0*, vf x, const Fit32& fit) { return level_below(x, fit, 8.5f, 15); }
INLINE vi level(const BlockQ4_1*, vf x, const Fit32& fit) { return level_below(x, fit, 0.5f, 15); }
INLINE vi level(const BlockQ5_0*, vf x, const Fit32& fit) { return level_below(x, fit, 16.5f, 31); }
INLINE vi level(const BlockQ5_1*, vf x, const Fit32& fit) { return level_below(x, fit, 0.5f, 31); }
// To the nearest, halves away from zero; at most one step of rounding beyond 127.
INLINE vi level(const BlockQ8_0*, vf x, const Fit32& fit) {
  vf exact = clamp_level(rounded(x * fit.inverse), -127, 127);
  vi whole = to_whole(exact);
  vf rest = exact - to_floats(whole);
  return whole - (vi)(rest >= splat(0.5f)) + (vi)(rest <= splat(-0.5f));
}

INLINE void pack_nibbles(u8* nibbles, const u8* levels) {
  for (int i = 0; i < 16; i++) nibbles[i] = (u8)((levels[i] & 15) | levels[i + 16] << 4);
}
INLINE void pack_fifth_bits(u8* high, const u8* levels) {
  for (int byte = 0; byte < 4; byte++) {
    int bits = 0;
    for (int i = 0; i < 8; i++) bits |= (levels[byte * 8 + i] >> 4) << i;
    high[byte] = (u8)bits;
  }
}

INLINE void pack(BlockQ8_0& block, const u8* levels, f32 scale, f32) {
  block.scale = f32_to_f16(scale);
  memcpy(block.values, levels, 32);
}
INLINE void pack(BlockQ4_0& block, const u8* levels, f32 scale, f32) {
  block.scale = f32_to_f16(scale);
  pack_nibbles(block.nibbles, levels);
}
INLINE void pack(BlockQ4_1& block, const u8* levels, f32 scale, f32 offset) {
  block.scale = f32_to_f16(scale);
  block.offset = f32_to_f16(offset);
  pack_nibbles(block.nibbles, levels);
}
INLINE void pack(BlockQ5_0& block, const u8* levels, f32 scale, f32) {
  block.scale = f32_to_f16(scale);
  pack_fifth_bits(block.high, levels);
  pack_nibbles(block.nibbles, levels);
}
INLINE void pack(BlockQ5_1& block, const u8* levels, f32 scale, f32 offset) {
  block.scale = f32_to_f16(scale);
  block.offset = f32_to_f16(offset);
  pack_fifth_bits(block.high, levels);
  pack_nibbles(block.nibbles, levels);
}

template <class Block>
static void encode_blocks_of_32(const f32* x, Block* out, isize blocks) {
  for (isize first = 0; first < blocks; first += LANES) {
    isize count = minimum(blocks - first, LANES);
    vf values[32];
    gather_lanes<32>(x + first * 32, count, values);
    Fit32 found = fit((Block*)nullptr, values);
    u8 levels[LANES * 32];
    for (int i = 0; i < 32; i++) scatter_levels<32>(level((Block*)nullptr, values[i], found), i, levels);
    f32 scales[LANES], offsets[LANES];
    store(scales, found.scale);
    store(offsets, found.offset);
    for (isize b = 0; b < count; b++) pack(out[first + b], levels + b * 32, scales[b], offsets[b]);
  }
}

// ---- rows ----------------------------------------------------------------------------------------------------------

template <class Block>
INLINE void encode_blocks(const f32* x, Block* row, isize columns) {
  if constexpr (Block::VALUES == 32) encode_blocks_of_32(x, row, columns / 32);
  else encode_blocks_of_256(x, row, columns / 256);
}
INLINE void encode_blocks(const f32* x, BlockF32* row, isize columns) {
  memcpy(row, x, (size_t)columns * sizeof(f32));
}
INLINE void encode_blocks(const f32* x, BlockF16* row, isize columns) {
  isize i = 0;
  for (; i + LANES <= columns; i += LANES) store_half_bits(row + i, f16_bits(load(x + i)));
  for (; i < columns; i++) row[i].value = f32_to_f16(x[i]);
}
INLINE void encode_blocks(const f32* x, BlockBF16* row, isize columns) {
  isize i = 0;
  for (; i + LANES <= columns; i += LANES) store_half_bits(row + i, bf16_bits(load(x + i)));
  for (; i < columns; i++) row[i].value = f32_to_bf16(x[i]);
}

OLMOE_API void olmoe_encode_rows(isize type, const f32* x, void* rows, isize count, isize columns) {
  with_block_type(type, [=](auto* block) {
    auto* first = (decltype(block))rows;
    isize blocks = columns / std::remove_pointer_t<decltype(block)>::VALUES;
    parallel_rows(count, columns, [=](isize begin, isize end) {
      for (isize row = begin; row < end; row++) encode_blocks(x + row * columns, first + row * blocks, columns);
    });
  });
}
