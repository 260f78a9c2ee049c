// Vectors of the widest registers that the target has, by the compiler's own vector types, and the few functions that
// the kernels need over them. No intrinsics: one source for AVX-512, AVX2, SSE, NEON and wasm.
#pragma once
#include <string.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
// After a lambda's parameters: a long body that a loop calls, and again its tail, would stay out of line otherwise.
#define INLINE_LAMBDA __attribute__((always_inline))

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

typedef f32 vf __attribute__((vector_size(LANES * 4), may_alias));
typedef i32 vi __attribute__((vector_size(LANES * 4), may_alias));
typedef f32 vf_unaligned __attribute__((vector_size(LANES * 4), aligned(4), may_alias));
// Four lanes, for transposing.
typedef f32 v4 __attribute__((vector_size(16), aligned(4), may_alias));

INLINE vf load(const f32* p) { return *(const vf_unaligned*)p; }
INLINE void store(f32* p, vf x) { *(vf_unaligned*)p = x; }

// Stores past the caches, which would read a line before it is written. p is a multiple of the vector's size; others see it
// after settle().
INLINE void stream(f32* p, vf x) {
#if defined(__AVX512F__)
  __builtin_ia32_movntps512(p, x);
#elif defined(__AVX2__)
  __builtin_ia32_movntps256(p, x);
#else
  *(vf*)p = x;
#endif
}
INLINE void settle() {
#if defined(__AVX2__)
  __builtin_ia32_sfence();
#endif
}

INLINE vf splat(f32 x) {
#if defined(__AVX512F__)
  return vf{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#elif defined(__AVX2__)
  return vf{x, x, x, x, x, x, x, x};
#else
  return vf{x, x, x, x};
#endif
}

INLINE vi lane_numbers() {
  vi numbers;
  for (int i = 0; i < LANES; i++) numbers[i] = i;
  return numbers;
}

// The first n lanes; the others are `rest`.
INLINE vf load_some(const f32* p, isize n, f32 rest = 0) {
  f32 lanes[LANES];
  for (int i = 0; i < LANES; i++) lanes[i] = i < n ? p[i] : rest;
  return load(lanes);
}
INLINE void store_some(f32* p, vf x, isize n) {
  f32 lanes[LANES];
  store(lanes, x);
  for (int i = 0; i < LANES; i++)
    if (i < n) p[i] = lanes[i];
}

// Where a comparison's lanes are set a, else b.
INLINE vf choose(vi mask, vf a, vf b) { return mask ? a : b; }
INLINE vf maximum(vf a, vf b) { return choose(a > b, a, b); }

// f over the two halves of x, then over the halves of that, down to one lane: always the same tree, so that every caller
// gets the same rounding.
template <class F>
INLINE f32 reduce_lanes(vf x, F f) {
#if defined(__AVX512F__)
  typedef f32 v8 __attribute__((vector_size(32)));
  v8 eight = f(__builtin_shufflevector(x, x, 0, 1, 2, 3, 4, 5, 6, 7), __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15));
  v4 four = f(__builtin_shufflevector(eight, eight, 0, 1, 2, 3), __builtin_shufflevector(eight, eight, 4, 5, 6, 7));
#elif defined(__AVX2__)
  v4 four = f(__builtin_shufflevector(x, x, 0, 1, 2, 3), __builtin_shufflevector(x, x, 4, 5, 6, 7));
#else
  v4 four = x;
#endif
  v4 two = f(four, __builtin_shufflevector(four, four, 2, 3, 2, 3));
  v4 one = f(two, __builtin_shufflevector(two, two, 1, 1, 1, 1));
  return one[0];
}
INLINE f32 sum_lanes(vf x) {
  return reduce_lanes(x, [](auto a, auto b) INLINE_LAMBDA { return a + b; });
}
INLINE f32 max_lanes(vf x) {
  return reduce_lanes(x, [](auto a, auto b) INLINE_LAMBDA { return b > a ? b : a; });
}

// e^x for x up to 88.37, to 1e-7 relative: x = n ln 2 + r, |r| <= ln(2)/2, a polynomial in r (Cephes' coefficients), times
// 2^n. Below -86.6 it is 0; not-a-number stays so. Softmaxes need no more: nothing there is above 0.
INLINE vf exp_below(vf x) {
  const vf magic = splat(12582912.0f + 127);  // 1.5 * 2^23: adding it rounds to an integer, here with an exponent's bias
  vf rounded = x * splat(1.44269504f) + magic;
  vf power = (vf)((vi)rounded << 23);
  vf n = rounded - magic;
  vf r = x - n * splat(0.693359375f);
  r = r - n * splat(-2.12194440e-4f);
  vf p = splat(1.9875691500e-4f);
  p = p * r + splat(1.3981999507e-3f);
  p = p * r + splat(8.3334519073e-3f);
  p = p * r + splat(4.1665795894e-2f);
  p = p * r + splat(1.6666665459e-1f);
  p = p * r + splat(5.0000001201e-1f);
  p = p * (r * r) + r + splat(1.0f);
  return choose(x < splat(-86.6f), splat(0.0f), p * power);
}
// e^x for any x: above 88.37 infinity.
INLINE vf exp_vector(vf x) {
  const vf high = splat(88.37f);
  return choose(x > high, splat(__builtin_inff()), exp_below(choose(x > high, high, x)));
}

// Compilers turn the loop into one instruction.
INLINE vf sqrt_vector(vf x) {
  f32 lanes[LANES];
  store(lanes, x);
  for (int i = 0; i < LANES; i++) lanes[i] = __builtin_sqrtf(lanes[i]);
  return load(lanes);
}

INLINE vf sigmoid_vector(vf x) { return splat(1.0f) / (splat(1.0f) + exp_vector(-x)); }

// f(i, n) for each vector of n = LANES elements, then once for the rest.
template <class F>
INLINE void each_vector(isize count, F f) {
  isize i = 0;
  for (; i + LANES <= count; i += LANES) f(i, (isize)LANES);
  if (i < count) f(i, count - i);
}
INLINE vf load_n(const f32* p, isize n, f32 rest = 0) { return n == LANES ? load(p) : load_some(p, n, rest); }
INLINE void store_n(f32* p, vf x, isize n) {
  if (n == LANES) store(p, x);
  else store_some(p, x, n);
}

// The sum of f(i, n) over all vectors, in four independent chains and a fixed order. f gives zeros beyond lane n.
template <class F>
INLINE f32 sum_over(isize count, F f) {
  vf a = splat(0), b = splat(0), c = splat(0), d = splat(0);
  isize i = 0;
  for (; i + 4 * LANES <= count; i += 4 * LANES) {
    a += f(i, (isize)LANES);
    b += f(i + LANES, (isize)LANES);
    c += f(i + 2 * LANES, (isize)LANES);
    d += f(i + 3 * LANES, (isize)LANES);
  }
  for (; i + LANES <= count; i += LANES) a += f(i, (isize)LANES);
  if (i < count) b += f(i, count - i);
  return sum_lanes((a + b) + (c + d));
}
// The largest of x, not-a-number left out; -infinity where there is none.
INLINE f32 max_over(const f32* x, isize count) {
  vf a = splat(-__builtin_inff()), b = a;
  isize i = 0;
  for (; i + 2 * LANES <= count; i += 2 * LANES) {
    a = maximum(load(x + i), a);
    b = maximum(load(x + i + LANES), b);
  }
  for (; i < count; i += LANES) a = maximum(load_n(x + i, count - i < LANES ? count - i : LANES, -__builtin_inff()), a);
  return max_lanes(maximum(a, b));
}

// out[c][r] = in[r][c] for four rows of four.
INLINE void transpose4(const f32* in, isize ldin, f32* out, isize ldout) {
  v4 a = *(const v4*)in, b = *(const v4*)(in + ldin), c = *(const v4*)(in + 2 * ldin), d = *(const v4*)(in + 3 * ldin);
  v4 ab_low = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab_high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
  v4 cd_low = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd_high = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  *(v4*)out = __builtin_shufflevector(ab_low, cd_low, 0, 1, 4, 5);
  *(v4*)(out + ldout) = __builtin_shufflevector(ab_low, cd_low, 2, 3, 6, 7);
  *(v4*)(out + 2 * ldout) = __builtin_shufflevector(ab_high, cd_high, 0, 1, 4, 5);
  *(v4*)(out + 3 * ldout) = __builtin_shufflevector(ab_high, cd_high, 2, 3, 6, 7);
}

#if defined(__AVX512F__)
// The same for 16 rows of 16.
INLINE void transpose_square(vf (&x)[16]) {
  vf y[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    y[i] = __builtin_shufflevector(x[i], x[i + 1], 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29);
    y[i + 1] = __builtin_shufflevector(x[i], x[i + 1], 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
    for (int j = 0; j < 2; j++) {
      vf a = y[i + j], b = y[i + j + 2];
      x[i + 2 * j] = __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29);
      x[i + 2 * j + 1] = __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31);
    }
  auto quarters = [](vf a, vf b, vf& even, vf& odd) INLINE_LAMBDA {
    even = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27);
    odd = __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31);
  };
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    quarters(x[i], x[i + 4], y[i], y[i + 4]);
    quarters(x[i + 8], x[i + 12], y[i + 8], y[i + 12]);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) quarters(y[i], y[i + 8], x[i], x[i + 8]);
}
INLINE void transpose16(const f32* in, isize ldin, f32* out, isize ldout) {
  vf x[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) x[i] = load(in + i * ldin);
  transpose_square(x);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) store(out + i * ldout, x[i]);
}
#endif
