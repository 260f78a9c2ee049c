// Threads, memory, and two measurements: arithmetic in registers and reading from memory.
#pragma once
#if defined(__linux__)
#include <malloc.h>
#include <sys/mman.h>
#endif

#include "blocks.h"
#include "features.h"

constexpr isize HUGE_PAGE = 2 << 20;

#if defined(__GLIBC__)
// Large blocks are mapped one by one, so that their memory goes back to the system when they are released. Left to
// itself, glibc raises this threshold with every large block that is released, up to 32 MB, and keeps what is below it.
static const int mapped_from = mallopt(M_MMAP_THRESHOLD, 2 * HUGE_PAGE);
#endif

OLMOE_API isize olmoe_set_threads(isize count) { return pool_resize(count); }

OLMOE_API void* olmoe_allocate(isize bytes) {
  if (bytes < 0 || bytes > INTPTR_MAX - 64) return nullptr;
  // Large blocks lie on huge pages where the system has them: matrix products touch many pages at a time.
  isize alignment = bytes >= 2 * HUGE_PAGE && bytes < INTPTR_MAX - HUGE_PAGE ? HUGE_PAGE : 64;
  size_t rounded = (size_t)round_up(maximum(bytes, 1), alignment);
  void* block = heap_allocate((size_t)alignment, rounded);
  if (!block) return nullptr;
#if defined(__linux__)
  // Pages that are given up read as zeros, and take no memory until they are written.
  if (alignment == HUGE_PAGE) {
    madvise(block, rounded, MADV_HUGEPAGE);
    if (madvise(block, rounded, MADV_DONTNEED) == 0) return block;
  }
#endif
  memset(block, 0, rounded);
  return block;
}

OLMOE_API void olmoe_release(void* block) { heap_release(block); }

#if defined(__wasm_atomics__)
OLMOE_API void olmoe_worker(isize index) { pool().work(index, Pool::job_of(pool().ticket.load())); }
OLMOE_API void olmoe_worker_failed(void) { pool().broken.store(true); }
#endif

OLMOE_API f64 olmoe_fma_burst(isize iterations) {
  constexpr int CHAINS = 12;  // enough to hide the latency of two units, few enough for 16 registers
  volatile f32 start = 0.5f, decay = 0.999f, push = 0.001f;  // read at run time, so that nothing folds
  f32 first = start, factor = decay, addend = push;
  parallel_for(thread_count, [=](isize task) {
    vf sums[CHAINS];
    for (int j = 0; j < CHAINS; j++) sums[j] = splat(first + (f32)(task + j));
    for (isize i = 0; i < iterations; i++)
      for (int j = 0; j < CHAINS; j++) sums[j] = sums[j] * splat(factor) + splat(addend);
    for (int j = 1; j < CHAINS; j++) sums[0] += sums[j];
    volatile f32 kept = sum_lanes(sums[0]);
    (void)kept;
  });
  return 2.0 * (f64)iterations * CHAINS * LANES * (f64)thread_count;
}

OLMOE_API f64 olmoe_read_burst(const f32* x, isize count, isize repeats) {
  f64 sums[MOST_PARTS] = {}, total = 0;
  for (isize repeat = 0; repeat < repeats; repeat++) {
    parallel_parts(count, TASK_ELEMENTS, [&](isize part, isize begin, isize end) {
      sums[part] = sum_over(end - begin, [=](isize i, isize n) INLINE_LAMBDA { return load_n(x + begin + i, n); });
    });
    for (f64 sum : sums) total += sum;
  }
  return total;
}
