// Weights as files store them: the blocks of GGML's types, and their values. A row is a run of blocks without gaps.
//
// A value is scale * q, with a whole number q of a few bits, or scale * q - minimum. Every product here is exact in f32 (an
// f16 has 11 bits, a block's own scale at most 7, q at most 6), so each value is rounded at most once, by its last
// addition, whether or not a compiler fuses the two: the results are those of GGML's own decoders, bit for bit.
#pragma once
#include <type_traits>

#include "halves.h"

#define PACKED __attribute__((packed))

// ---- layouts (ggml-common.h) ---------------------------------------------------------------------------------------

// ID is GGML's number of the type, VALUES how many a block holds.
struct PACKED BlockF32 {
  static constexpr isize ID = 0, VALUES = 1;
  f32 value;
};
struct PACKED BlockF16 {
  static constexpr isize ID = 1, VALUES = 1;
  u16 value;
};
struct PACKED BlockBF16 {
  static constexpr isize ID = 30, VALUES = 1;
  u16 value;
};

// Blocks of 32. Byte i of the nibbles holds value i in its lower and value i + 16 in its upper half; bit i of `high` is the
// fifth bit of value i.
struct PACKED BlockQ8_0 {
  static constexpr isize ID = 8, VALUES = 32;
  u16 scale;
  i8 values[32];
};
struct PACKED BlockQ4_0 {
  static constexpr isize ID = 2, VALUES = 32;
  u16 scale;
  u8 nibbles[16];
};
struct PACKED BlockQ4_1 {
  static constexpr isize ID = 3, VALUES = 32;
  u16 scale, offset;
  u8 nibbles[16];
};
struct PACKED BlockQ5_0 {
  static constexpr isize ID = 6, VALUES = 32;
  u16 scale;
  u8 high[4], nibbles[16];
};
struct PACKED BlockQ5_1 {
  static constexpr isize ID = 7, VALUES = 32;
  u16 scale, offset;
  u8 high[4], nibbles[16];
};

// Blocks of 256, cut in SUB_VALUES each with a scale of its own in units of `scale`, and in some types a minimum in units
// of `minimum`.
//
// Two-bit fields: byte 32h + i of `pairs` holds values 128h + i, + 32, + 64 and + 96, lowest bits first.
struct PACKED BlockQ2_K {
  static constexpr isize ID = 10, VALUES = 256, SUB_VALUES = 16;
  u8 scales[16];  // scale in the lower, minimum in the upper half
  u8 pairs[64];
  u16 scale, minimum;
};
struct PACKED BlockQ3_K {
  static constexpr isize ID = 11, VALUES = 256, SUB_VALUES = 16;
  u8 high[32];  // bit k of byte i: value 32k + i is not lowered by 4
  u8 pairs[64];
  u8 scales[12];  // 6 bits each, see scales_of
  u16 scale;
};
// Byte 32g + i of `nibbles` holds value 64g + i in its lower and value 64g + 32 + i in its upper half.
struct PACKED BlockQ4_K {
  static constexpr isize ID = 12, VALUES = 256, SUB_VALUES = 32;
  u16 scale, minimum;
  u8 scales[12];  // 6 bits each, see scales_of
  u8 nibbles[128];
};
struct PACKED BlockQ5_K {
  static constexpr isize ID = 13, VALUES = 256, SUB_VALUES = 32;
  u16 scale, minimum;
  u8 scales[12];
  u8 high[32];  // bit k of byte i is the fifth bit of value 32k + i
  u8 nibbles[128];
};
// Byte 64h + i of `nibbles` holds the lower four bits of values 128h + i and 128h + 64 + i, for i up to 63; byte 32h + i of
// `pairs` the upper two of values 128h + i, + 32, + 64 and + 96.
struct PACKED BlockQ6_K {
  static constexpr isize ID = 14, VALUES = 256, SUB_VALUES = 16;
  u8 nibbles[128], pairs[64];
  i8 scales[16];
  u16 scale;
};

// Calls f with a null pointer of the type's block: the one place that knows all types. Callers have checked the number.
template <class F>
INLINE void with_block_type(isize type, F f) {
  switch (type) {
    case BlockF32::ID: return f((BlockF32*)nullptr);
    case BlockF16::ID: return f((BlockF16*)nullptr);
    case BlockBF16::ID: return f((BlockBF16*)nullptr);
    case BlockQ8_0::ID: return f((BlockQ8_0*)nullptr);
    case BlockQ4_0::ID: return f((BlockQ4_0*)nullptr);
    case BlockQ4_1::ID: return f((BlockQ4_1*)nullptr);
    case BlockQ5_0::ID: return f((BlockQ5_0*)nullptr);
    case BlockQ5_1::ID: return f((BlockQ5_1*)nullptr);
    case BlockQ2_K::ID: return f((BlockQ2_K*)nullptr);
    case BlockQ3_K::ID: return f((BlockQ3_K*)nullptr);
    case BlockQ4_K::ID: return f((BlockQ4_K*)nullptr);
    case BlockQ5_K::ID: return f((BlockQ5_K*)nullptr);
    case BlockQ6_K::ID: return f((BlockQ6_K*)nullptr);
  }
}

// ---- scales of blocks of 256 ---------------------------------------------------------------------------------------

// Q4_K and Q5_K: the first four scales and minima have a byte each, which the upper two bits of the other four share.
struct ScalesAndMinima {
  u8 scale[8], minimum[8];
};
INLINE ScalesAndMinima scales_of(const u8 (&packed)[12]) {
  ScalesAndMinima all;
  for (int j = 0; j < 4; j++) {
    all.scale[j] = packed[j] & 63;
    all.minimum[j] = packed[j + 4] & 63;
    all.scale[j + 4] = (u8)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
    all.minimum[j + 4] = (u8)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
  }
  return all;
}

// Q3_K: scale j has its lower four bits in byte j % 8 and its upper two in byte 8 + j % 4. Between -32 and 31.
struct SignedScales {
  i8 scale[16];
};
INLINE SignedScales signed_scales_of(const u8 (&packed)[12]) {
  SignedScales all;
  for (int j = 0; j < 16; j++) {
    int low = packed[j % 8] >> (j / 8 * 4) & 15, high = packed[8 + j % 4] >> (j / 4 * 2) & 3;
    all.scale[j] = (i8)((low | high << 4) - 32);
  }
  return all;
}

// ---- values --------------------------------------------------------------------------------------------------------

INLINE void decode_block(const BlockQ8_0& block, f32* out) {
  f32 scale = f16_to_f32(block.scale);
  for (int i = 0; i < 32; i++) out[i] = scale * (f32)block.values[i];
}

INLINE void decode_block(const BlockQ4_0& block, f32* out) {
  f32 scale = f16_to_f32(block.scale);
  for (int i = 0; i < 16; i++) {
    out[i] = scale * (f32)((block.nibbles[i] & 15) - 8);
    out[i + 16] = scale * (f32)((block.nibbles[i] >> 4) - 8);
  }
}

INLINE void decode_block(const BlockQ4_1& block, f32* out) {
  f32 scale = f16_to_f32(block.scale), offset = f16_to_f32(block.offset);
  for (int i = 0; i < 16; i++) {
    out[i] = scale * (f32)(block.nibbles[i] & 15) + offset;
    out[i + 16] = scale * (f32)(block.nibbles[i] >> 4) + offset;
  }
}

// The fifth bits of 32 values, of which `fifth_bit` gives one in its place. Comparing with a mask goes by vectors
// everywhere; shifting each lane by another count does not.
constexpr i32 BIT[16] = {1 << 0,  1 << 1,  1 << 2,  1 << 3,  1 << 4,  1 << 5,  1 << 6,  1 << 7,
                         1 << 8,  1 << 9,  1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15};
INLINE i32 bits_of(const u8* bytes) { return bytes[0] | bytes[1] << 8; }
INLINE i32 fifth_bit(i32 bits, int i) { return bits & BIT[i] ? 16 : 0; }

INLINE void decode_block(const BlockQ5_0& block, f32* out) {
  f32 scale = f16_to_f32(block.scale);
  i32 low_half = bits_of(block.high), high_half = bits_of(block.high + 2);
  for (int i = 0; i < 16; i++) {
    out[i] = scale * (f32)(((block.nibbles[i] & 15) | fifth_bit(low_half, i)) - 16);
    out[i + 16] = scale * (f32)((block.nibbles[i] >> 4 | fifth_bit(high_half, i)) - 16);
  }
}

INLINE void decode_block(const BlockQ5_1& block, f32* out) {
  f32 scale = f16_to_f32(block.scale), offset = f16_to_f32(block.offset);
  i32 low_half = bits_of(block.high), high_half = bits_of(block.high + 2);
  for (int i = 0; i < 16; i++) {
    out[i] = scale * (f32)((block.nibbles[i] & 15) | fifth_bit(low_half, i)) + offset;
    out[i + 16] = scale * (f32)(block.nibbles[i] >> 4 | fifth_bit(high_half, i)) + offset;
  }
}

INLINE void decode_block(const BlockQ2_K& block, f32* out) {
  f32 unit = f16_to_f32(block.scale), minimum_unit = f16_to_f32(block.minimum);
  for (int sub = 0; sub < 16; sub++) {
    f32 scale = unit * (f32)(block.scales[sub] & 15), minimum = minimum_unit * (f32)(block.scales[sub] >> 4);
    const u8* pairs = block.pairs + sub / 8 * 32 + sub % 2 * 16;
    int shift = sub / 2 % 4 * 2;
    for (int i = 0; i < 16; i++) out[sub * 16 + i] = scale * (f32)(pairs[i] >> shift & 3) - minimum;
  }
}

INLINE void decode_block(const BlockQ3_K& block, f32* out) {
  f32 unit = f16_to_f32(block.scale);
  SignedScales scales = signed_scales_of(block.scales);
  for (int sub = 0; sub < 16; sub++) {
    f32 scale = unit * (f32)scales.scale[sub];
    const u8 *pairs = block.pairs + sub / 8 * 32 + sub % 2 * 16, *high = block.high + sub % 2 * 16;
    int shift = sub / 2 % 4 * 2, bit = sub / 2;
    for (int i = 0; i < 16; i++)
      out[sub * 16 + i] = scale * (f32)((pairs[i] >> shift & 3) + (high[i] >> bit & 1) * 4 - 4);
  }
}

INLINE void decode_block(const BlockQ4_K& block, f32* out) {
  f32 unit = f16_to_f32(block.scale), minimum_unit = f16_to_f32(block.minimum);
  ScalesAndMinima all = scales_of(block.scales);
  for (int sub = 0; sub < 8; sub++) {
    f32 scale = unit * (f32)all.scale[sub], minimum = minimum_unit * (f32)all.minimum[sub];
    const u8* nibbles = block.nibbles + sub / 2 * 32;
    int shift = sub % 2 * 4;
    for (int i = 0; i < 32; i++) out[sub * 32 + i] = scale * (f32)(nibbles[i] >> shift & 15) - minimum;
  }
}

INLINE void decode_block(const BlockQ5_K& block, f32* out) {
  f32 unit = f16_to_f32(block.scale), minimum_unit = f16_to_f32(block.minimum);
  ScalesAndMinima all = scales_of(block.scales);
  for (int sub = 0; sub < 8; sub++) {
    f32 scale = unit * (f32)all.scale[sub], minimum = minimum_unit * (f32)all.minimum[sub];
    const u8* nibbles = block.nibbles + sub / 2 * 32;
    int shift = sub % 2 * 4;
    for (int i = 0; i < 32; i++)
      out[sub * 32 + i] = scale * (f32)((nibbles[i] >> shift & 15) + (block.high[i] >> sub & 1) * 16) - minimum;
  }
}

INLINE void decode_block(const BlockQ6_K& block, f32* out) {
  f32 unit = f16_to_f32(block.scale);
  for (int sub = 0; sub < 16; sub++) {
    f32 scale = unit * (f32)block.scales[sub];
    int half = sub / 8, quarter = sub / 2 % 4, start = sub % 2 * 16;
    const u8* nibbles = block.nibbles + half * 64 + quarter % 2 * 32 + start;
    const u8* pairs = block.pairs + half * 32 + start;
    int shift = quarter / 2 * 4, pair_shift = quarter * 2;
    for (int i = 0; i < 16; i++)
      out[sub * 16 + i] = scale * (f32)((nibbles[i] >> shift & 15) + (pairs[i] >> pair_shift & 3) * 16 - 32);
  }
}

// out[columns] = the values of a row of blocks.
template <class Block>
INLINE void decode_blocks(const Block* row, f32* out, isize columns) {
  for (isize i = 0; i < columns / Block::VALUES; i++) decode_block(row[i], out + i * Block::VALUES);
}
INLINE void decode_blocks(const BlockF32* row, f32* out, isize columns) {
  memcpy(out, row, (size_t)columns * sizeof(f32));
}
INLINE void decode_blocks(const BlockF16* row, f32* out, isize columns) {
  isize i = 0;
  for (; i + LANES <= columns; i += LANES) store(out + i, load_f16(row + i));
  for (; i < columns; i++) out[i] = f16_to_f32(row[i].value);
}
INLINE void decode_blocks(const BlockBF16* row, f32* out, isize columns) {
  isize i = 0;
  for (; i + LANES <= columns; i += LANES) store(out + i, load_bf16(row + i));
  for (; i < columns; i++) out[i] = bf16_to_f32(row[i].value);
}

// The same for a type that is known at run time only.
static inline void decode_row(isize type, const void* row, f32* out, isize columns) {
  with_block_type(type, [=](auto* block) { decode_blocks((decltype(block))row, out, columns); });
}

OLMOE_API void olmoe_decode_rows(isize type, const void* rows, f32* out, isize count, isize columns) {
  with_block_type(type, [=](auto* block) {
    const auto* first = (decltype(block))rows;
    isize blocks = columns / std::remove_pointer_t<decltype(block)>::VALUES;
    parallel_blocks(count, maximum(1, STREAM_ELEMENTS / maximum(1, columns)), [=](isize begin, isize end) {
      for (isize row = begin; row < end; row++) decode_blocks(first + row * blocks, out + row * columns, columns);
    });
  });
}
