// What the products of quantised weights need to know of each type: how its values come out of a block as bytes, and what
// they are multiplied by. Everything else is the same for all types.
//
// A type of 32 values is a struct with
//   Block, OFFSET (what is subtracted from each byte), MINIMUM (whether a block adds an offset to its values),
//   SIGNED (bytes have signs; no OFFSET then), and
//   load(first, stride, low, high): bytes of PIECES blocks that are `stride` apart, each block's values 0..15 in a piece of
//   `low` and 16..31 in one of `high`.
// A block begins with its scale, and where it has one, its offset follows: both f16.
#pragma once
#include "activations.h"

// Tokens that share one reading of the weights; with more of them, unpacking rows in panels is the quicker way.
constexpr isize STREAMED_TOKENS = 4;
// How far ahead of its use a weight's line is asked for: beyond the page, at whose end the processor's own prefetcher stops.
constexpr isize PREFETCH_BYTES = 4096;
// Asks for lines, into the second cache: the first has room for fewer on their way than memory needs to be busy.
INLINE void ask_ahead(const u8* place, isize bytes) {
  for (isize line = 0; line < bytes; line += 64) __builtin_prefetch(place + line, 0, 1);
}
// Tokens of one tile of the panel path: as many as registers hold sums for.
#if defined(__AMX_INT8__)
constexpr int TILE_TOKENS = 16;
#elif defined(__AVX512F__) || defined(__aarch64__)
constexpr int TILE_TOKENS = 12;
#else
constexpr int TILE_TOKENS = 4;
#endif

// Where lanes are rows, the order in which a lane goes through what are LANES lanes elsewhere: that of the tree of sum_halves.
INLINE isize chain_at(isize i) {
  isize chain = 0;
  for (isize bit = 1; bit < LANES; bit *= 2) chain = chain * 2 + (i / bit) % 2;
  return chain;
}

// Values of a lane's chains on their way up the tree of sum_halves.
template <int N>
struct ChainSums {
  vf levels[6][N];
  int depth = 0;
  // The chain number i has ended.
  INLINE void push(ChainSums& sums, isize i, vf (&chain)[N]) {
    for (; i & 1; i >>= 1) {
      sums.depth--;
      for (int t = 0; t < N; t++) chain[t] = sums.levels[sums.depth][t] + chain[t];
    }
    for (int t = 0; t < N; t++) sums.levels[sums.depth][t] = chain[t];
    sums.depth++;
  }
};

// f(first, N) for groups of N inputs, as many as go in groups of MOST, then of 8 (from 16 down), 4, 2 and 1. N is a type.
template <int MOST, class F>
INLINE void in_groups(isize count, F f) {
  isize i = 0;
  auto groups = [&](auto number) INLINE_LAMBDA {
    for (; i + decltype(number)::value <= count; i += decltype(number)::value) f(i, number);
  };
  groups(std::integral_constant<int, MOST>{});
  if constexpr (MOST > 12) groups(std::integral_constant<int, 8>{});
  if constexpr (MOST > 4) groups(std::integral_constant<int, 4>{});
  if constexpr (MOST > 2) groups(std::integral_constant<int, 2>{});
  if constexpr (MOST > 1) groups(std::integral_constant<int, 1>{});
}

INLINE void load_nibbles(const u8* first, isize stride, vi& low, vi& high) {
  vi nibbles = gather_pieces(first, stride);
  low = nibbles & 0x0f0f0f0f;
  high = (nibbles >> 4) & 0x0f0f0f0f;
}

// Adds 16 to the values whose bit is set; bit i of the 32 belongs to value i.
INLINE void add_fifth_bits(const u8* first, isize stride, vi& low, vi& high) {
#if defined(__AVX512F__)
  uint64_t below = 0, above = 0;
  for (int i = 0; i < PIECES; i++) {
    u32 bits = (u32)read_i32(first + i * stride);
    below |= (uint64_t)(bits & 0xffff) << (16 * i);
    above |= (uint64_t)(bits >> 16) << (16 * i);
  }
  const __m512i sixteen = _mm512_set1_epi8(16);
  low = (vi)_mm512_mask_add_epi8((__m512i)low, below, (__m512i)low, sixteen);
  high = (vi)_mm512_mask_add_epi8((__m512i)high, above, (__m512i)high, sixteen);
#else
  // A byte's eight bits become eight bytes: copies of it, of each of which one bit is kept and moved to place 4.
  uint64_t spread[2][2 * PIECES];
  for (int i = 0; i < PIECES; i++)
    for (int byte = 0; byte < 4; byte++) {
      uint64_t bits = (first[i * stride + byte] * 0x0101010101010101ull) & 0x8040201008040201ull;
      spread[byte / 2][2 * i + byte % 2] = ((bits + 0x7f7f7f7f7f7f7f7full) & 0x8080808080808080ull) >> 3;
    }
  low |= load_bytes(spread[0]);
  high |= load_bytes(spread[1]);
#endif
}

// A block ends with 16 bytes of nibbles, before which there may be 32 fifth bits.
template <class BLOCK, i32 LESS, bool ADDS, bool FIFTH_BITS>
struct NibbleWeights {
  typedef BLOCK Block;
  static constexpr i32 OFFSET = LESS;
  static constexpr bool MINIMUM = ADDS, SIGNED = false;
  INLINE void load(const u8* first, isize stride, vi& low, vi& high) {
    load_nibbles(first + sizeof(Block) - 16, stride, low, high);
    if (FIFTH_BITS) add_fifth_bits(first + sizeof(Block) - 20, stride, low, high);
  }
};
typedef NibbleWeights<BlockQ4_0, 8, false, false> Weights4_0;
typedef NibbleWeights<BlockQ4_1, 0, true, false> Weights4_1;
typedef NibbleWeights<BlockQ5_0, 16, false, true> Weights5_0;
typedef NibbleWeights<BlockQ5_1, 0, true, true> Weights5_1;

struct Weights8_0 {
  typedef BlockQ8_0 Block;
  static constexpr i32 OFFSET = UNSIGNED_WEIGHTS ? 128 : 0;
  static constexpr bool MINIMUM = false, SIGNED = !UNSIGNED_WEIGHTS;
  INLINE void load(const u8* first, isize stride, vi& low, vi& high) {
    const i32 flip = UNSIGNED_WEIGHTS ? (i32)0x80808080 : 0;
    low = gather_pieces(first + 2, stride) ^ flip;
    high = gather_pieces(first + 18, stride) ^ flip;
  }
};

// Of types that differ only in how they are unpacked, and in OFFSET, the one that their panels are multiplied as.
template <class W>
using Unpacked32 = std::conditional_t<W::SIGNED, Weights8_0, std::conditional_t<W::MINIMUM, Weights4_1, Weights4_0>>;

// A type of 256 values is a struct with
//   Block, SUB (values that share a scale), OFFSET, MINIMUM (whether each sub-block subtracts a minimum), and
//   values(block, c): bytes of values c * VECTOR_BYTES and following;
//   scales(block, scale): a whole number for each sub-block; minima(block, minimum) likewise.

// Fields of `bits` bits of the bytes from p on: field number `first` for the first half of a vector's lanes and `second`
// for the other half, which are the same bytes again; where a vector has no halves of 32 bytes, only `first`.
INLINE vi fields(const u8* p, int first, int second) {
#if defined(__AVX512F__)
  __m512i bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i*)p));
  __m512i shifts = _mm512_inserti64x4(_mm512_set1_epi32(first), _mm256_set1_epi32(second), 1);
  return (vi)_mm512_srlv_epi32(bytes, shifts);
#else
  (void)second;
  return (vi)((vector_u32)load_bytes(p) >> first);
#endif
}

struct Weights4_K {
  typedef BlockQ4_K Block;
  static constexpr int SUB = 32;
  static constexpr i32 OFFSET = 0;
  static constexpr bool MINIMUM = true;
  INLINE vi values(const Block& block, int c) {
    int first = c * VECTOR_BYTES;
    return fields(block.nibbles + first / 64 * 32 + first % 32, first / 32 % 2 * 4, 4) & 0x0f0f0f0f;
  }
};
struct Weights5_K {
  typedef BlockQ5_K Block;
  static constexpr int SUB = 32;
  static constexpr i32 OFFSET = 0;
  static constexpr bool MINIMUM = true;
  INLINE vi values(const Block& block, int c) {
    int first = c * VECTOR_BYTES, sub = first / 32;
    vi low = fields(block.nibbles + first / 64 * 32 + first % 32, sub % 2 * 4, 4) & 0x0f0f0f0f;
    vi high = fields(block.high + first % 32, sub, sub + 1) & 0x01010101;
    return low | high << 4;
  }
};
struct Weights6_K {
  typedef BlockQ6_K Block;
  static constexpr int SUB = 16;
  static constexpr i32 OFFSET = 32;
  static constexpr bool MINIMUM = false;
  INLINE vi values(const Block& block, int c) {
    int first = c * VECTOR_BYTES, quarter = first / 32 % 4;
    vi low = (load_bytes(block.nibbles + first / 128 * 64 + first % 64) >> (quarter / 2 * 4)) & 0x0f0f0f0f;
    vi high = fields(block.pairs + first / 128 * 32 + first % 32, quarter * 2, quarter * 2 + 2) & 0x03030303;
    return low | high << 4;
  }
};

template <class W>
using Unpacked256 = std::conditional_t<W::MINIMUM, Weights4_K, Weights6_K>;

// Whole numbers that multiply the sub-blocks of a block, as pairs (n, n) of 16 bits; and those that multiply the sums of
// their activations, as they are: minima, or the scales again where each value has an offset.
template <class W>
struct Factors {
  static constexpr int COUNT = 256 / W::SUB;
  alignas(64) i32 scale[LANES > COUNT ? LANES : COUNT];
  alignas(32) i16 correction[COUNT];
};

INLINE void store_factor(i32& pair, i32 value) { pair = (value & 0xffff) | (i32)((u32)value << 16); }

template <class W>
INLINE void factors_of(const W*, const u8 (&packed)[12], Factors<W>& factors) {
  // The first four have a byte each, with the upper two bits of the other four: see scales_of in storage.h.
  u32 a = (u32)read_i32(packed), b = (u32)read_i32(packed + 4), c = (u32)read_i32(packed + 8);
  uint64_t scales = (a & 0x3f3f3f3f) | (uint64_t)((c & 0x0f0f0f0f) | (a >> 6 & 0x03030303) << 4) << 32;
  uint64_t minima = (b & 0x3f3f3f3f) | (uint64_t)((c >> 4 & 0x0f0f0f0f) | (b >> 6 & 0x03030303) << 4) << 32;
#if defined(__AVX512F__)
  // One store, of which one load takes all: a load that meets two stores waits until they have left the processor.
  __m512i wide = _mm512_cvtepu8_epi32(_mm_cvtsi64_si128((long long)scales));
  _mm512_store_si512(factors.scale, _mm512_or_si512(wide, _mm512_slli_epi32(wide, 16)));
  _mm_store_si128((__m128i*)factors.correction, _mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)minima)));
#elif defined(__AVX2__)
  __m256i wide = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)scales));
  _mm256_store_si256((__m256i*)factors.scale, _mm256_or_si256(wide, _mm256_slli_epi32(wide, 16)));
  _mm_store_si128((__m128i*)factors.correction, _mm_cvtepu8_epi16(_mm_cvtsi64_si128((long long)minima)));
#else
  for (int j = 0; j < 8; j++) {
    store_factor(factors.scale[j], (i32)(scales >> (8 * j) & 63));
    factors.correction[j] = (i16)(minima >> (8 * j) & 63);
  }
#endif
}
INLINE void read_factors(const BlockQ4_K& block, Factors<Weights4_K>& f) { factors_of((Weights4_K*)0, block.scales, f); }
INLINE void read_factors(const BlockQ5_K& block, Factors<Weights5_K>& f) { factors_of((Weights5_K*)0, block.scales, f); }
INLINE void read_factors(const BlockQ6_K& block, Factors<Weights6_K>& factors) {
#if defined(__AVX512F__)
  __m128i scales = _mm_loadu_si128((const __m128i*)block.scales);
  __m512i wide = _mm512_cvtepi8_epi32(scales);
  _mm512_store_si512(factors.scale, _mm512_mask_blend_epi16(0xaaaaaaaa, wide, _mm512_slli_epi32(wide, 16)));
  _mm256_store_si256((__m256i*)factors.correction, _mm256_cvtepi8_epi16(scales));
#elif defined(__AVX2__)
  __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)block.scales));
  _mm256_store_si256((__m256i*)factors.correction, wide);
  __m256i low = _mm256_unpacklo_epi16(wide, wide), high = _mm256_unpackhi_epi16(wide, wide);
  _mm256_store_si256((__m256i*)factors.scale, _mm256_permute2x128_si256(low, high, 0x20));
  _mm256_store_si256((__m256i*)(factors.scale + 8), _mm256_permute2x128_si256(low, high, 0x31));
#else
  for (int j = 0; j < 16; j++) {
    store_factor(factors.scale[j], block.scales[j]);
    factors.correction[j] = block.scales[j];
  }
#endif
}
