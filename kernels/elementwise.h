// Kernels that treat every element alike: they run at memory speed.
#pragma once
#include "blocks.h"

OLMOE_API void olmoe_fill(f32* x, isize count, f32 value) {
  parallel_vectors(count, [=](isize i, isize n) INLINE_LAMBDA { store_n(x + i, splat(value), n); });
}

OLMOE_API void olmoe_add(const f32* a, const f32* b, f32* out, isize count) {
  parallel_vectors(count, [=](isize i, isize n) INLINE_LAMBDA {
    store_n(out + i, load_n(a + i, n) + load_n(b + i, n), n);
  });
}

// Not-a-number passes, so that a clamp never hides a fault.
OLMOE_API void olmoe_clamp_forward(const f32* x, isize ldx, f32* y, isize ldy, isize rows, isize cols, f32 limit) {
  vf low = splat(-limit), high = splat(limit);
  parallel_rows(rows, cols, [=](isize begin, isize end) {
    for (isize row = begin; row < end; row++)
      each_vector(cols, [=](isize i, isize n) INLINE_LAMBDA {
        vf value = load_n(x + row * ldx + i, n);
        store_n(y + row * ldy + i, choose(value < low, low, choose(value > high, high, value)), n);
      });
  });
}

OLMOE_API void olmoe_clamp_backward(const f32* x, isize ldx, const f32* dy, isize lddy, f32* dx, isize lddx, isize rows,
                                    isize cols, f32 limit) {
  vf low = splat(-limit), high = splat(limit);
  parallel_rows(rows, cols, [=](isize begin, isize end) {
    for (isize row = begin; row < end; row++)
      each_vector(cols, [=](isize i, isize n) INLINE_LAMBDA {
        vf value = load_n(x + row * ldx + i, n);
        vi inside = (value >= low) & (value <= high);
        store_n(dx + row * lddx + i, choose(inside, load_n(dy + row * lddy + i, n), splat(0)), n);
      });
  });
}

// The sum of squares in f64, which holds the square of every f32 exactly: no gradient overflows its norm. Compilers
// keep the chains in registers.
static f64 squares_of(const f32* x, isize count) {
  constexpr int CHAINS = 2 * LANES;
  f64 sums[CHAINS] = {}, total = 0;
  isize i = 0;
  for (; i + CHAINS <= count; i += CHAINS) {
    // Gradients come from far away, and conversions keep the loads from running ahead by themselves.
    for (int j = 0; j < CHAINS; j += 16) __builtin_prefetch(x + i + j + 1024);
    for (int j = 0; j < CHAINS; j++) sums[j] += (f64)x[i + j] * (f64)x[i + j];
  }
  for (f64 sum : sums) total += sum;
  for (; i < count; i++) total += (f64)x[i] * (f64)x[i];
  return total;
}

OLMOE_API f64 olmoe_sum_squares(const f32* x, isize count) {
  f64 sums[MOST_PARTS] = {}, total = 0;
  parallel_parts(count, TASK_ELEMENTS,
                 [&](isize part, isize begin, isize end) { sums[part] = squares_of(x + begin, end - begin); });
  for (f64 sum : sums) total += sum;
  return total;
}

OLMOE_API isize olmoe_first_nonfinite(const f32* x, isize count) {
  constexpr isize RUN = 1024;
  isize found[MOST_PARTS];
  parallel_parts(count, TASK_ELEMENTS, [&](isize part, isize begin, isize end) {
    found[part] = -1;
    for (isize run = begin; run < end && found[part] < 0; run += RUN) {
      isize size = minimum(RUN, end - run);
      // 0 * x is 0 for what is finite and not-a-number for the rest.
      f32 sum = sum_over(size, [=](isize i, isize n) INLINE_LAMBDA { return load_n(x + run + i, n) * splat(0); });
      if (sum == 0) continue;
      for (isize i = run + size - 1; i >= run; i--)
        if (x[i] * 0 != 0) found[part] = i;
    }
  });
  for (isize part = 0; part < part_count(count, TASK_ELEMENTS); part++)
    if (found[part] >= 0) return found[part];
  return -1;
}

// One chain of sums for each lane, as in squares_of; a plain sum waits for itself.
static void difference_of(const f32* a, const f32* b, f64* out, isize count) {
  constexpr int CHAINS = 2 * LANES;
  f64 error[CHAINS] = {}, square[CHAINS] = {}, most[CHAINS] = {}, lost[CHAINS] = {};
  auto add = [&](int chain, f64 x, f64 y) INLINE_LAMBDA {
    f64 size = __builtin_fabs(y - x);
    error[chain] += size * size;
    square[chain] += x * x;
    most[chain] = size > most[chain] ? size : most[chain];
    lost[chain] += y - y == 0 ? 0 : 1;
  };
  isize i = 0;
  for (; i + CHAINS <= count; i += CHAINS)
    for (int j = 0; j < CHAINS; j++) add(j, a[i + j], b[i + j]);
  for (; i < count; i++) add(0, a[i], b[i]);
  for (int j = 0; j < CHAINS; j++) {
    out[0] += error[j];
    out[1] += square[j];
    out[2] = most[j] > out[2] ? most[j] : out[2];
    out[3] += lost[j];
  }
}

OLMOE_API void olmoe_difference(const f32* a, const f32* b, f64* out, isize count) {
  f64 parts[MOST_PARTS][4] = {};
  parallel_parts(count, TASK_ELEMENTS, [&](isize part, isize begin, isize end) {
    difference_of(a + begin, b + begin, parts[part], end - begin);
  });
  for (int j = 0; j < 4; j++) out[j] = 0;
  for (const f64* part : parts) {
    out[0] += part[0];
    out[1] += part[1];
    out[2] = part[2] > out[2] ? part[2] : out[2];
    out[3] += part[3];
  }
}
