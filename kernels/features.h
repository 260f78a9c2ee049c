// What the processor offers.
#pragma once
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#if defined(__x86_64__)
#include <cpuid.h>
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
#elif defined(__ARM_NEON)
  features |= 16;
#elif defined(__wasm_simd128__)
  features |= 32;
#endif
  return features;
}
