// LayerNorm (arXiv 1607.06450). With n = (x - mean) * rstd, g = dy * weight and averages over the width:
//   dx = rstd * (g - average(g) - n * average(g * n)),  dweight = sum over rows of dy * n,  dbias = sum over rows of dy.
#pragma once
#include "blocks.h"

// A parameter's vector, or the value that its absence stands for.
INLINE vf load_or(const f32* p, isize i, isize n, f32 absent) { return p ? load_n(p + i, n) : splat(absent); }

OLMOE_API void olmoe_layernorm_forward(const f32* x, isize ldx, const f32* weight, const f32* bias, f32* y, isize ldy,
                                       f32* mean, f32* rstd, isize rows, isize width, f32 epsilon) {
  parallel_rows(rows, width, [=](isize begin, isize end) {
    for (isize row = begin; row < end; row++) {
      const f32* in = x + row * ldx;
      f32* out = y + row * ldy;
      f32 center = sum_over(width, [=](isize i, isize n) INLINE_LAMBDA { return load_n(in + i, n); }) / (f32)width;
      // Around the mean, in a second pass: the difference of two large sums would lose the variance to rounding.
      f32 squares = sum_over(width, [=](isize i, isize n) INLINE_LAMBDA {
        vf value = load_n(in + i, n, center) - splat(center);
        return value * value;
      });
      f32 factor = 1 / __builtin_sqrtf(squares / (f32)width + epsilon);
      mean[row] = center;
      rstd[row] = factor;
      each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
        vf normalised = (load_n(in + i, n) - splat(center)) * splat(factor);
        store_n(out + i, normalised * load_or(weight, i, n, 1) + load_or(bias, i, n, 0), n);
      });
    }
  });
}

// One row: x, dy and dx point at it. The sums, where given, gain the row's parts of dweight and dbias before dx may
// overwrite dy.
INLINE void layernorm_backward_row(const f32* x, const f32* weight, f32 mean, f32 rstd, const f32* dy, f32* dx,
                                   f32* weight_sum, f32* bias_sum, isize width, bool accumulate) {
  f32 sum = sum_over(
      width, [=](isize i, isize n) INLINE_LAMBDA { return load_n(dy + i, n) * load_or(weight, i, n, 1); });
  f32 product = sum_over(width, [=](isize i, isize n) INLINE_LAMBDA {
    return load_n(dy + i, n) * load_or(weight, i, n, 1) * ((load_n(x + i, n) - splat(mean)) * splat(rstd));
  });
  f32 average = sum / (f32)width, pull = product / (f32)width;
  each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
    vf grad = load_n(dy + i, n), normalised = (load_n(x + i, n) - splat(mean)) * splat(rstd);
    if (weight_sum) store_n(weight_sum + i, load_n(weight_sum + i, n) + grad * normalised, n);
    if (bias_sum) store_n(bias_sum + i, load_n(bias_sum + i, n) + grad, n);
    vf inner = grad * load_or(weight, i, n, 1) - splat(average) - normalised * splat(pull);
    vf before = accumulate ? load_n(dx + i, n) : splat(0);
    store_n(dx + i, before + inner * splat(rstd), n);
  });
}

// to += the sum of the parts, in order.
INLINE void add_parts(f32* to, const f32* sums, isize parts, isize width) {
  each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
    vf sum = splat(0);
    for (isize part = 0; part < parts; part++) sum += load_n(sums + part * width + i, n);
    store_n(to + i, load_n(to + i, n) + sum, n);
  });
}

OLMOE_API void olmoe_layernorm_backward(const f32* x, isize ldx, const f32* weight, const f32* mean, const f32* rstd,
                                        const f32* dy, isize lddy, f32* dx, isize lddx, f32* dweight, f32* dbias,
                                        isize rows, isize width, isize accumulate) {
  isize least = task_rows(width), parts = part_count(rows, least);
  f32* sums = dweight || dbias ? scratch(SLOT_SHARED, 2 * parts * width) : nullptr;
  f32* bias_sums = sums ? sums + parts * width : nullptr;
  if (sums) memset(sums, 0, (size_t)(2 * parts * width) * sizeof(f32));
  parallel_parts(rows, least, [=](isize part, isize begin, isize end) {
    f32* weight_sum = dweight ? sums + part * width : nullptr;
    f32* bias_sum = dbias ? bias_sums + part * width : nullptr;
    for (isize row = begin; row < end; row++)
      layernorm_backward_row(x + row * ldx, weight, mean[row], rstd[row], dy + row * lddy, dx + row * lddx, weight_sum,
                             bias_sum, width, accumulate);
  });
  if (dweight) add_parts(dweight, sums, parts, width);
  if (dbias) add_parts(dbias, bias_sums, parts, width);
}
