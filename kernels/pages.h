// Pages of the key/value cache, as they lie in memory. A page holds PAGE_TOKENS tokens of one layer: for each key/value head
// its keys, then its values. Keys lie channel by channel, [channels, tokens]: a vector of them is one channel of neighbouring
// tokens, so that scores of many tokens grow side by side, in the order of sums that the register tile has. Values lie token
// by token, [tokens, channels].
//
//   F32   as they are
//   F16   rounded to nearest, ties to even
//   Q8_0  for each token and run of 32 channels a scale (f16) and 8-bit values; all values of a part before its scales, which
//         are [channels / 32, tokens] for keys and [tokens, channels / 32] for values. A product of both is exact in f32.
#pragma once
#if defined(__F16C__) || defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "blocks.h"

namespace paged {

constexpr isize PAGE_TOKENS = 32, SCALE_CHANNELS = 32;
constexpr int PAGE_VECTORS = PAGE_TOKENS / LANES;
enum Type { TYPE_F32 = 0, TYPE_F16 = 1, TYPE_Q8_0 = 8 };

typedef uint16_t half;
typedef uint16_t half_lanes __attribute__((vector_size(LANES * 2), aligned(2), may_alias));
typedef uint32_t vu __attribute__((vector_size(LANES * 4), may_alias));

INLINE half half_of(f32 x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  if (size > 0x7f800000) return (half)(sign | 0x7e00 | (size >> 13 & 0x3ff));
  if (size >= 0x477ff000) return (half)(sign | 0x7c00);
  if (size >= 0x38800000) return (half)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
  // Next to 0.5 the grid of f32 is that of the smallest halves: the addition rounds.
  f32 shifted = __builtin_fabsf(x) + 0.5f;
  memcpy(&bits, &shifted, sizeof bits);
  return (half)(sign | (bits - 0x3f000000));
}

INLINE vf load_halves(const half* p) {
#if defined(__AVX512F__)
  return (vf)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
  return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#elif defined(__aarch64__)
  return (vf)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
#else
  vi bits = (vi)__builtin_convertvector(*(const half_lanes*)p, vu);
  vi sign = (bits & 0x8000) << 16, size = bits & 0x7fff, wide = size << 13;
  // Below the smallest normal half the leading one is not there: it is put before the number and taken off again.
  vf small = (vf)(wide + (113 << 23)) - splat(6.103515625e-5f);
  vf normal = (vf)(wide + (size > 0x7bff ? vi{} + (224 << 23) : vi{} + (112 << 23)));
  return (vf)((vi)choose(size < 0x400, small, normal) | sign);
#endif
}

// The first n lanes of x as halves.
INLINE void store_halves(half* p, vf x, isize n) {
  half lanes[LANES];
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i*)lanes, _mm512_maskz_cvtps_ph(0xffff, (__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
  _mm_storeu_si128((__m128i*)lanes, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__aarch64__)
  vst1_u16(lanes, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)x)));
#else
  f32 floats[LANES];
  store(floats, x);
  for (int i = 0; i < LANES; i++) lanes[i] = half_of(floats[i]);
#endif
  if (n == LANES) memcpy(p, lanes, sizeof lanes);
  else
    for (isize i = 0; i < n; i++) p[i] = lanes[i];
}

// What the three types have in common; a part is the keys, or the values, of one head in one page. Vectors may be read up to
// their end beyond a row: what follows is in the page, or in the 64 bytes after the last one.
struct Floats {
  INLINE isize part_bytes(isize channels) { return channels * PAGE_TOKENS * (isize)sizeof(f32); }
  INLINE vf key_scales(const char*, isize, isize, isize) { return vf{}; }
  INLINE vf key(const char* keys, isize channel, isize token, vf) {
    return load((const f32*)keys + channel * PAGE_TOKENS + token);
  }
  INLINE void value_scales(const char*, isize, f32*) {}
  INLINE vf value(const char* values, isize channels, isize token, isize channel, const f32*) {
    return load((const f32*)values + token * channels + channel);
  }
  static void put_key(char* keys, isize channels, isize token, const f32* row) {
    for (isize c = 0; c < channels; c++) ((f32*)keys)[c * PAGE_TOKENS + token] = row[c];
  }
  static void put_value(char* values, isize channels, isize token, const f32* row) {
    memcpy((f32*)values + token * channels, row, (size_t)channels * sizeof(f32));
  }
};

struct Halves {
  INLINE isize part_bytes(isize channels) { return channels * PAGE_TOKENS * (isize)sizeof(half); }
  INLINE vf key_scales(const char*, isize, isize, isize) { return vf{}; }
  INLINE vf key(const char* keys, isize channel, isize token, vf) {
    return load_halves((const half*)keys + channel * PAGE_TOKENS + token);
  }
  INLINE void value_scales(const char*, isize, f32*) {}
  INLINE vf value(const char* values, isize channels, isize token, isize channel, const f32*) {
    return load_halves((const half*)values + token * channels + channel);
  }
  static void put_key(char* keys, isize channels, isize token, const f32* row) {
    each_vector(channels, [&](isize c, isize n) {
      half lanes[LANES];
      store_halves(lanes, load_n(row + c, n), LANES);
      for (isize i = 0; i < n; i++) ((half*)keys)[(c + i) * PAGE_TOKENS + token] = lanes[i];
    });
  }
  static void put_value(char* values, isize channels, isize token, const f32* row) {
    half* target = (half*)values + token * channels;
    each_vector(channels, [&](isize c, isize n) { store_halves(target + c, load_n(row + c, n), n); });
  }
};

struct Bytes {
  INLINE isize runs(isize channels) { return (channels + SCALE_CHANNELS - 1) / SCALE_CHANNELS; }
  INLINE isize part_bytes(isize channels) {
    return channels * PAGE_TOKENS + runs(channels) * PAGE_TOKENS * (isize)sizeof(half);
  }
  INLINE half* scales_of(const char* part, isize channels) { return (half*)(part + channels * PAGE_TOKENS); }
  // By instructions where there are some: compilers take the vector apart for a conversion from bytes.
  INLINE vf widen(const int8_t* p) {
#if defined(__AVX512F__)
    return (vf)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p)));
#elif defined(__AVX2__)
    return (vf)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)));
#else
    i32 four;
    memcpy(&four, p, sizeof four);
    // Each byte becomes the highest of a lane, from where the shift brings its sign down.
    vi spread = vi{four, four, four, four} << vi{24, 16, 8, 0};
    return __builtin_convertvector(spread >> 24, vf);
#endif
  }
  INLINE vf key_scales(const char* keys, isize channels, isize channel, isize token) {
    return load_halves(scales_of(keys, channels) + channel / SCALE_CHANNELS * PAGE_TOKENS + token);
  }
  INLINE vf key(const char* keys, isize channel, isize token, vf scales) {
    return widen((const int8_t*)keys + channel * PAGE_TOKENS + token) * scales;
  }
  // All scales of a page's values as f32, [tokens, runs].
  INLINE void value_scales(const char* values, isize channels, f32* scales) {
    const half* stored = scales_of(values, channels);
    for (isize i = 0; i < PAGE_TOKENS * runs(channels); i += LANES) store(scales + i, load_halves(stored + i));
  }
  INLINE vf value(const char* values, isize channels, isize token, isize channel, const f32* scales) {
    f32 scale = scales[token * runs(channels) + channel / SCALE_CHANNELS];
    return widen((const int8_t*)values + token * channels + channel) * splat(scale);
  }
  // Scale and values of a run. One that has no scale, because it is too large or not a number, becomes not-a-number.
  static half quantise(const f32* x, isize count, int8_t* out) {
    const vf limit = splat(127 * 65504.0f), magic = splat(12582912.0f), most_steps = splat(127);
    vf most = splat(0), faults = splat(0);
    each_vector(count, [&](isize i, isize n) {
      vf size = (vf)((vi)load_n(x + i, n) & 0x7fffffff);
      most = maximum(size, most);
      faults += choose(size <= limit, splat(0), splat(1));
    });
    memset(out, 0, count > 0 ? (size_t)count : 0);
    if (sum_lanes(faults) > 0) return 0x7e00;
    half stored = half_of(max_lanes(most) / 127), lanes[LANES] = {stored};
    f32 scale = load_halves(lanes)[0];
    if (scale == 0) return stored;
    each_vector(count, [&](isize i, isize n) {
      // Adding 1.5 * 2^23 rounds to an integer, ties to even. A scale among the smallest halves may be too small for 127.
      vf steps = load_n(x + i, n) / splat(scale) + magic - magic;
      steps = choose(steps > most_steps, most_steps, choose(steps < -most_steps, -most_steps, steps));
      vi rounded = __builtin_convertvector(steps, vi);
      for (isize lane = 0; lane < n; lane++) out[i + lane] = (int8_t)rounded[lane];
    });
    return stored;
  }
  static void put_key(char* keys, isize channels, isize token, const f32* row) {
    for (isize c = 0; c < channels; c += SCALE_CHANNELS) {
      int8_t run[SCALE_CHANNELS];
      isize count = minimum(SCALE_CHANNELS, channels - c);
      scales_of(keys, channels)[c / SCALE_CHANNELS * PAGE_TOKENS + token] = quantise(row + c, count, run);
      for (isize i = 0; i < count; i++) keys[(c + i) * PAGE_TOKENS + token] = (char)run[i];
    }
  }
  static void put_value(char* values, isize channels, isize token, const f32* row) {
    int8_t* target = (int8_t*)values + token * channels;
    half* scales = scales_of(values, channels) + token * runs(channels);
    for (isize c = 0; c < channels; c += SCALE_CHANNELS)
      scales[c / SCALE_CHANNELS] = quantise(row + c, minimum(SCALE_CHANNELS, channels - c), target + c);
  }
};

// call(the type's functions).
template <class Call>
INLINE void with_type(isize type, Call call) {
  if (type == TYPE_F16) call(Halves());
  else if (type == TYPE_Q8_0) call(Bytes());
  else call(Floats());
}

}  // namespace paged

OLMOE_API void olmoe_cache_store(const f32* k, isize ldk, const f32* v, isize ldv, void* pages, const i32* slots,
                                 isize tokens, isize kv_heads, isize channels, isize type) {
  using namespace paged;
  with_type(type, [&](auto format) {
    typedef decltype(format) Format;
    isize part = Format::part_bytes(channels);
    // One head of a page's worth of tokens: its lines stay in the first cache while the tokens' channels go there.
    isize runs = (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS;
    parallel_for(runs * kv_heads, [&](isize task) {
      isize head = task % kv_heads, begin = task / kv_heads * PAGE_TOKENS, end = minimum(begin + PAGE_TOKENS, tokens);
      for (isize t = begin; t < end; t++) {
        isize page = slots[t] / PAGE_TOKENS, token = slots[t] % PAGE_TOKENS;
        char* keys = (char*)pages + (page * kv_heads + head) * 2 * part;
        // A key writes a line for each channel, which come from memory faster together than one by one.
        for (isize line = 0; line < part && t == begin; line += 64) __builtin_prefetch(keys + line, 1);
        Format::put_key(keys, channels, token, k + t * ldk + head * channels);
        Format::put_value(keys + part, channels, token, v + t * ldv + head * channels);
      }
    });
  });
}
