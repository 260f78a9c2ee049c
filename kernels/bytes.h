// Vectors of bytes and what products of 8-bit numbers need of them, for each instruction set: sums of four products in each
// 32-bit lane, transposing, and multiply-adds of f32 that every path of a kernel makes alike.
#pragma once
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#elif defined(__wasm_simd128__)
#include <wasm_simd128.h>
#endif

#include "storage.h"

typedef int16_t i16;
typedef u32 vector_u32 __attribute__((vector_size(LANES * 4), may_alias));

// A vector's bytes; pieces of 16 of them, of which operations inside of "quarters" work on one at a time.
constexpr int VECTOR_BYTES = LANES * 4, PIECES = LANES / 4;

typedef vi vi_unaligned __attribute__((aligned(1)));
typedef vf vf_packed __attribute__((aligned(1)));
INLINE vi load_bytes(const void* p) { return *(const vi_unaligned*)p; }
INLINE void store_bytes(void* p, vi x) { *(vi_unaligned*)p = x; }
// From weights in files, which need not begin on a border of floats.
INLINE vf load_packed(const void* p) { return *(const vf_packed*)p; }
INLINE i32 read_i32(const void* p) {
  i32 value;
  memcpy(&value, p, sizeof value);
  return value;
}
INLINE vf as_floats(vi x) { return __builtin_convertvector(x, vf); }

// a * b + c, rounded once where the instruction set can and twice where it can not: never as a compiler likes.
INLINE vf fused(vf a, vf b, vf c) {
#if defined(__AVX512F__)
  return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// To the nearest whole number, ties to even; |x| below 2^22.
INLINE vi nearest_ints(vf x) {
#if defined(__AVX512F__)
  return (vi)_mm512_cvtps_epi32((__m512)x);
#elif defined(__AVX2__)
  return (vi)_mm256_cvtps_epi32((__m256)x);
#elif defined(__x86_64__)
  return (vi)_mm_cvtps_epi32((__m128)x);
#elif defined(__aarch64__)
  return (vi)vcvtnq_s32_f32((float32x4_t)x);
#else
  return (vi)(x + splat(12582912.0f)) - 0x4b400000;
#endif
}

// The sum of all lanes, as halves are added: each lane of the lower and its counterpart of the upper half.
INLINE f32 sum_halves(vf x) {
#if defined(__AVX512F__)
  __m256 y = _mm256_add_ps(_mm512_castps512_ps256((__m512)x), _mm512_extractf32x8_ps((__m512)x, 1));
  __m128 z = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  z = _mm_add_ps(z, _mm_movehl_ps(z, z));
  return _mm_cvtss_f32(_mm_add_ss(z, _mm_movehdup_ps(z)));
#else
  return sum_lanes(x);
#endif
}

// Four lanes, whatever a vector has: what is one number for each block of 256 is worked on in fours.
typedef f32 quad __attribute__((vector_size(16), may_alias));
typedef i32 quad_ints __attribute__((vector_size(16), may_alias));
typedef i32 quad_ints_unaligned __attribute__((vector_size(16), aligned(1), may_alias));

INLINE quad fused4(quad a, quad b, quad c) {
#if defined(__FMA__)
  return (quad)_mm_fmadd_ps((__m128)a, (__m128)b, (__m128)c);
#elif defined(__aarch64__)
  return (quad)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// PIECES pieces of 16 bytes, `stride` bytes apart.
INLINE vi gather_pieces(const u8* p, isize stride) {
#if defined(__AVX512F__)
  __m512i x = _mm512_castsi128_si512(_mm_loadu_si128((const __m128i*)p));
  x = _mm512_mask_broadcast_i32x4(x, 0x00f0, _mm_loadu_si128((const __m128i*)(p + stride)));
  x = _mm512_mask_broadcast_i32x4(x, 0x0f00, _mm_loadu_si128((const __m128i*)(p + 2 * stride)));
  return (vi)_mm512_mask_broadcast_i32x4(x, 0xf000, _mm_loadu_si128((const __m128i*)(p + 3 * stride)));
#elif defined(__AVX2__)
  return (vi)_mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)p)),
                                     _mm_loadu_si128((const __m128i*)(p + stride)), 1);
#else
  (void)stride;
  return load_bytes(p);
#endif
}

// LANES integers of 32 bits, `stride` bytes apart.
INLINE vi gather_ints(const u8* p, isize stride) {
#if defined(__AVX512F__)
  __m512i places = _mm512_mullo_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                                      _mm512_set1_epi32((i32)stride));
  return (vi)_mm512_i32gather_epi32(places, p, 1);
#else
  vi x;
  for (int i = 0; i < LANES; i++) x[i] = read_i32(p + i * stride);
  return x;
#endif
}

// The f16 in the lower half of each lane.
INLINE vf lower_f16(vi x) {
#if defined(__AVX512F__)
  return (vf)_mm512_cvtph_ps(_mm512_cvtepi32_epi16((__m512i)x));
#else
  return f16_value(x & 0xffff);
#endif
}
INLINE vf upper_f16(vi x) { return lower_f16((x >> 16) & 0xffff); }

// ---- shuffles inside of pieces -------------------------------------------------------------------------------------

#if defined(__AVX512F__)
#define OLMOE_SHUFFLE(name, op) \
  INLINE vi name(vi a, vi b) { return (vi)_mm512_##op((__m512i)a, (__m512i)b); }
#elif defined(__AVX2__)
#define OLMOE_SHUFFLE(name, op) \
  INLINE vi name(vi a, vi b) { return (vi)_mm256_##op((__m256i)a, (__m256i)b); }
#endif
#if defined(__AVX2__)
OLMOE_SHUFFLE(low_ints, unpacklo_epi32)
OLMOE_SHUFFLE(high_ints, unpackhi_epi32)
OLMOE_SHUFFLE(low_pairs, unpacklo_epi64)
OLMOE_SHUFFLE(high_pairs, unpackhi_epi64)
#undef OLMOE_SHUFFLE
#else
INLINE vi low_ints(vi a, vi b) { return __builtin_shufflevector(a, b, 0, 4, 1, 5); }
INLINE vi high_ints(vi a, vi b) { return __builtin_shufflevector(a, b, 2, 6, 3, 7); }
INLINE vi low_pairs(vi a, vi b) { return __builtin_shufflevector(a, b, 0, 1, 4, 5); }
INLINE vi high_pairs(vi a, vi b) { return __builtin_shufflevector(a, b, 2, 3, 6, 7); }
#endif

INLINE quad_ints quad_sums(const quad_ints (&x)[4]) {
  auto low = [](quad_ints a, quad_ints b) INLINE_LAMBDA { return __builtin_shufflevector(a, b, 0, 4, 1, 5); };
  auto high = [](quad_ints a, quad_ints b) INLINE_LAMBDA { return __builtin_shufflevector(a, b, 2, 6, 3, 7); };
  quad_ints a = low(x[0], x[1]) + high(x[0], x[1]), b = low(x[2], x[3]) + high(x[2], x[3]);
  return __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
}
// The sum of a vector's pieces.
INLINE quad_ints add_pieces(vi x) {
#if defined(__AVX512F__)
  __m256i y = _mm256_add_epi32(_mm512_castsi512_si256((__m512i)x), _mm512_extracti64x4_epi64((__m512i)x, 1));
  return (quad_ints)_mm_add_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
#elif defined(__AVX2__)
  return (quad_ints)_mm_add_epi32(_mm256_castsi256_si128((__m256i)x), _mm256_extracti128_si256((__m256i)x, 1));
#else
  return (quad_ints)x;
#endif
}

// The largest lane; none is negative.
INLINE i32 largest_lane(vi x) {
#if defined(__AVX512F__)
  __m256i y = _mm256_max_epi32(_mm512_castsi512_si256((__m512i)x), _mm512_extracti64x4_epi64((__m512i)x, 1));
  __m128i z = _mm_max_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
  z = _mm_max_epi32(z, _mm_unpackhi_epi64(z, z));
  return _mm_cvtsi128_si32(_mm_max_epi32(z, _mm_shuffle_epi32(z, 1)));
#else
  i32 largest = 0;
  for (int lane = 0; lane < LANES; lane++) largest = x[lane] > largest ? x[lane] : largest;
  return largest;
#endif
}

// In each piece: x[p] lane q becomes x[q] lane p.
INLINE void transpose_pieces(vi (&x)[4]) {
  vi a = low_ints(x[0], x[1]), b = high_ints(x[0], x[1]), c = low_ints(x[2], x[3]), d = high_ints(x[2], x[3]);
  x[0] = low_pairs(a, c);
  x[1] = high_pairs(a, c);
  x[2] = low_pairs(b, d);
  x[3] = high_pairs(b, d);
}
// In each piece: lane p is the sum of the four lanes of x[p].
INLINE vi sum_pieces(const vi (&x)[4]) {
  vi a = low_ints(x[0], x[1]) + high_ints(x[0], x[1]), b = low_ints(x[2], x[3]) + high_ints(x[2], x[3]);
  return low_pairs(a, b) + high_pairs(a, b);
}

// ---- products of bytes ---------------------------------------------------------------------------------------------

#if defined(__AVX512VNNI__)
// Weights of 8 bits with a sign are used as bytes without one, 128 more.
constexpr bool UNSIGNED_WEIGHTS = true;
#else
constexpr bool UNSIGNED_WEIGHTS = false;
#endif

#if defined(__AMX_INT8__)
// Products of many tokens by tiles.
constexpr bool TILES = true;
#else
constexpr bool TILES = false;
#endif

typedef u8 vector_u8 __attribute__((vector_size(LANES * 4), may_alias));
// GCC 12 does not know that loading a tile reads memory, nor that a configuration of tiles is longer than a pointer, and
// leaves out calls whose stores nobody else seems to read. What was stored before this is in memory after it.
INLINE void finish_stores(const void* place) { __asm__ volatile("" : : "r"(place) : "memory"); }

// Each byte less `less`.
INLINE vi lower_bytes(vi x, i32 less) { return (vi)((vector_u8)x - (u8)less); }

// Sums of the products of neighbouring 16-bit numbers.
INLINE vi multiply_pairs(vi a, vi b) {
#if defined(__AVX512F__)
  return (vi)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (vi)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return (vi)_mm_madd_epi16((__m128i)a, (__m128i)b);
#elif defined(__wasm_simd128__)
  return (vi)wasm_i32x4_dot_i16x8((v128_t)a, (v128_t)b);
#elif defined(__aarch64__)
  int16x8_t x = (int16x8_t)a, y = (int16x8_t)b;
  return (vi)vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(y)), vmull_high_s16(x, y));
#else
  return ((a << 16) >> 16) * ((b << 16) >> 16) + (a >> 16) * (b >> 16);
#endif
}

INLINE quad_ints multiply_quad_pairs(quad_ints a, quad_ints b) {
#if defined(__x86_64__)
  return (quad_ints)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return (quad_ints)multiply_pairs((vi)a, (vi)b);
#endif
}

#if defined(__AVX512F__)
typedef __m512i raw;
INLINE vi byte_pairs(vi w, vi x) { return (vi)_mm512_maddubs_epi16((raw)w, (raw)x); }
INLINE vi add_halves(vi a, vi b) { return (vi)_mm512_add_epi16((raw)a, (raw)b); }
// |w| and x with the sign of w.
INLINE void move_sign(vi& w, vi& x) {
  __mmask64 negative = _mm512_movepi8_mask((raw)w);
  x = (vi)_mm512_mask_sub_epi8((raw)x, negative, _mm512_setzero_si512(), (raw)x);
  w = (vi)_mm512_abs_epi8((raw)w);
}
#elif defined(__AVX2__)
typedef __m256i raw;
INLINE vi byte_pairs(vi w, vi x) { return (vi)_mm256_maddubs_epi16((raw)w, (raw)x); }
INLINE vi add_halves(vi a, vi b) { return (vi)_mm256_add_epi16((raw)a, (raw)b); }
INLINE void move_sign(vi& w, vi& x) {
  x = (vi)_mm256_sign_epi8((raw)x, (raw)w);
  w = (vi)_mm256_abs_epi8((raw)w);
}
#endif

// In each lane: sum + the four products of bytes of w and x; x has signs, w has them where SIGNED and is below 64 (with
// VNNI: 256) where not.
template <bool SIGNED>
INLINE vi add_products(vi sum, vi w, vi x) {
#if defined(__AVX512VNNI__)
  static_assert(!SIGNED, "see UNSIGNED_WEIGHTS");
  return (vi)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)w, (__m512i)x);
#elif defined(__AVX2__)
  if (SIGNED) move_sign(w, x);
  return sum + multiply_pairs(byte_pairs(w, x), vi{} + 0x00010001);
#elif defined(__ARM_FEATURE_DOTPROD)
  return (vi)vdotq_s32((int32x4_t)sum, (int8x16_t)w, (int8x16_t)x);
#else
  // Even and odd bytes as 16-bit numbers. w without signs has none in 16 bits either way.
  typedef i16 vs __attribute__((vector_size(LANES * 4)));
  vs even_w = (vs)w << 8, even_x = (vs)x << 8;
  return sum + multiply_pairs((vi)(even_w >> 8), (vi)(even_x >> 8)) + multiply_pairs((vi)((vs)w >> 8), (vi)((vs)x >> 8));
#endif
}

// The same for two vectors each, which some instruction sets add up in 16 bits first.
template <bool SIGNED>
INLINE vi two_products(vi w0, vi x0, vi w1, vi x1) {
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
  if (!SIGNED) return multiply_pairs(add_halves(byte_pairs(w0, x0), byte_pairs(w1, x1)), vi{} + 0x00010001);
#endif
  return add_products<SIGNED>(add_products<SIGNED>(vi{}, w0, x0), w1, x1);
}

// sums[t] + the products of the bytes of COUNT vectors of weights with four bytes of each of N tokens, in each lane: weights(k)
// is a vector, four(t, k) the token's bytes as a lane. Where instructions have pairs of products in 16 bits, RUN of them are
// added up there first: weights are below 128 / RUN then, so that 2 RUN of their products with up to 127 stay below 2^15.
template <bool SIGNED, int COUNT, int RUN, int N, class Weights, class Four>
INLINE void add_quads(vi (&sums)[N], Weights weights, Four four) {
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
  if (!SIGNED) {
#pragma GCC unroll 8
    for (int first = 0; first < COUNT; first += RUN) {
      vi pairs[N];
#pragma GCC unroll 8
      for (int k = first; k < first + RUN; k++) {
        vi w = weights(k);
#pragma GCC unroll 12
        for (int t = 0; t < N; t++) {
          vi products = byte_pairs(w, vi{} + four(t, k));
          pairs[t] = k == first ? products : add_halves(pairs[t], products);
        }
      }
#pragma GCC unroll 12
      for (int t = 0; t < N; t++) sums[t] += multiply_pairs(pairs[t], vi{} + 0x00010001);
    }
    return;
  }
#endif
#pragma GCC unroll 8
  for (int k = 0; k < COUNT; k++) {
    vi w = weights(k);
#pragma GCC unroll 12
    for (int t = 0; t < N; t++) sums[t] = add_products<SIGNED>(sums[t], w, vi{} + four(t, k));
  }
}
