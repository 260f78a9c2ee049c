// What the processor offers.
#pragma once
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

#include "kernels.h"

#if defined(__x86_64__)
// Whether AMX tiles for bf16 and bytes are there, and the system lets this process use them.
static bool tiles_allowed(void) {
#if defined(__linux__)
  constexpr unsigned TILES_AND_TYPES = 1u << 25 | 1u << 24 | 1u << 22;  // leaf 7, edx: AMX-INT8, AMX-TILE and AMX-BF16
  constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & TILES_AND_TYPES) != TILES_AND_TYPES) return false;
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return false;
#endif
}

// Whether products of bf16 in vector registers (two multiply-adds for each 32 bits) are quicker than those of f32. Processors
// differ fourfold in this, and none says so: both are timed for some microseconds, the best of a few rounds.
__attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16"))) static bool bf16_is_quick(void) {
  constexpr int CHAINS = 12, STEPS = 1000, ROUNDS = 8;
  volatile float start = 1;
  __m512 sums[CHAINS], factor = _mm512_set1_ps(start);
  __m512bh pairs = (__m512bh)_mm512_castps_si512(factor);
  for (int j = 0; j < CHAINS; j++) sums[j] = factor;
  unsigned long long best[2] = {~0ull, ~0ull};
  for (int round = 0; round < 2 * ROUNDS; round++) {
    unsigned long long begin = __builtin_ia32_rdtsc();
    for (int i = 0; i < STEPS; i++) {
#pragma GCC unroll 12
      for (int j = 0; j < CHAINS; j++)
        sums[j] = round % 2 ? _mm512_dpbf16_ps(sums[j], pairs, pairs) : _mm512_fmadd_ps(sums[j], factor, factor);
    }
    for (int j = 0; j < CHAINS; j++) start = start + sums[j][0];  // not before the last of them is there
    unsigned long long time = __builtin_ia32_rdtsc() - begin;
    if (time < best[round % 2]) best[round % 2] = time;
  }
  return best[1] < 2 * best[0];
}
#endif

OLMOE_API isize olmoe_cpu_features(void) {
  isize features = 0;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) features |= 1;
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl"))
    features |= 2;
  if (__builtin_cpu_supports("avx512bf16")) features |= 4;
  if (__builtin_cpu_supports("avx512vnni")) features |= 8;
  if ((features & 14) == 14 && tiles_allowed()) features |= 64;
  if ((features & 6) == 6 && bf16_is_quick()) features |= 128;
#elif defined(__ARM_NEON)
  features |= 16;
#elif defined(__wasm_simd128__)
  features |= 32;
#endif
  return features;
}
