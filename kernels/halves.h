// The two halves of an f32 that files hold, IEEE binary16 (f16) and bfloat16 (the upper half of an f32), one by one and by
// vectors. Widening is exact; narrowing rounds to nearest, ties to even. Not-a-number stays so.
#pragma once
#if defined(__F16C__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "blocks.h"

typedef uint8_t u8;
typedef int8_t i8;
typedef uint16_t u16;
typedef uint32_t u32;

// LANES halves and, widened, their bits.
typedef u16 vh __attribute__((vector_size(LANES * 2), may_alias));
typedef u16 vh_unaligned __attribute__((vector_size(LANES * 2), aligned(1), may_alias));

INLINE vi splat_bits(i32 x) { return vi{} + x; }
INLINE vi choose_bits(vi mask, vi a, vi b) { return mask ? a : b; }

INLINE vi half_bits(const void* p) { return __builtin_convertvector(*(const vh_unaligned*)p, vi); }
// The lower 16 bits of each lane.
INLINE void store_half_bits(void* p, vi bits) { *(vh_unaligned*)p = __builtin_convertvector(bits, vh); }

INLINE vf load_bf16(const void* p) { return (vf)(half_bits(p) << 16); }

// Without conversion instructions: in an f32 the exponent of a half is 112 more, for the smallest halves too when the
// processor does the shifting by a product. Infinities and not-a-number keep the highest exponent.
INLINE vf f16_value(vi half) {
  vi magnitude = (half & 0x7fff) << 13, sign = (half & 0x8000) << 16;
  vi special = magnitude >= splat_bits(0x7c00 << 13);
  vi bits = (vi)((vf)magnitude * splat(0x1p112f));
  return (vf)(sign | choose_bits(special, magnitude | 0x7f800000, bits));
}

// LANES halves from p on.
INLINE vf load_f16(const void* p) {
#if defined(__F16C__) && defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__) && defined(__AVX2__)
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8((const u8*)p)));
#else
  return f16_value(half_bits(p));
#endif
}

INLINE f32 f16_to_f32(u16 half) {
#if defined(__F16C__)
  return _cvtsh_ss(half);
#elif defined(__aarch64__)
  __fp16 value;
  memcpy(&value, &half, sizeof value);
  return value;
#else
  u32 magnitude = (u32)(half & 0x7fff) << 13, bits = magnitude | 0x7f800000;
  f32 value;
  if (magnitude < (u32)0x7c00 << 13) {
    memcpy(&value, &magnitude, sizeof value);
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof bits);
  }
  bits |= (u32)(half & 0x8000) << 16;
  memcpy(&value, &bits, sizeof value);
  return value;
#endif
}

INLINE f32 bf16_to_f32(u16 half) {
  u32 bits = (u32)half << 16;
  f32 value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

// The upper half after rounding; a payload in the lower half alone would turn not-a-number into an infinity.
INLINE vi bf16_bits(vf x) {
  vi bits = (vi)x, upper = (bits >> 16) & 0xffff;
  vi nan = (bits & 0x7fffffff) > splat_bits(0x7f800000);
  return choose_bits(nan, upper | 0x40, ((bits + 0x7fff + (upper & 1)) >> 16) & 0xffff);
}

// Magnitudes from 65,520 on become infinities.
INLINE vi f16_bits(vf x) {
  vi bits = (vi)x, sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  vi normal = (magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Next to 0.5 the f32 grid is the subnormal grid of f16, so adding 0.5 rounds to it.
  vi subnormal = (vi)((vf)magnitude + splat(0.5f)) - 0x3f000000;
  vi half = choose_bits(magnitude < splat_bits(0x38800000), subnormal, normal);
  half = choose_bits(magnitude >= splat_bits(0x477ff000), splat_bits(0x7c00), half);
  vi nan = splat_bits(0x7e00) | ((magnitude >> 13) & 0x3ff);
  return sign | choose_bits(magnitude > splat_bits(0x7f800000), nan, half);
}

INLINE u16 f32_to_f16(f32 x) { return (u16)f16_bits(splat(x))[0]; }
INLINE u16 f32_to_bf16(f32 x) { return (u16)bf16_bits(splat(x))[0]; }
