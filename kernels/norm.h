// RMSNorm. With r = rstd, g = dy * weight and mean over the width:
//   dx = r * (g - x * r^2 * mean(g * x)),  dweight = sum over rows of dy * x * r.
#pragma once
#include "blocks.h"

OLMOE_API void olmoe_rmsnorm_forward(const f32* x, isize ldx, const f32* weight, f32* y, isize ldy, f32* rstd,
                                     isize rows, isize width, f32 epsilon) {
  parallel_rows(rows, width, [=](isize begin, isize end) {
    for (isize row = begin; row < end; row++) {
      const f32* in = x + row * ldx;
      f32* out = y + row * ldy;
      f32 squares = sum_over(width, [=](isize i, isize n) INLINE_LAMBDA {
        vf value = load_n(in + i, n);
        return value * value;
      });
      f32 factor = 1 / __builtin_sqrtf(squares / (f32)width + epsilon);
      rstd[row] = factor;
      each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
        store_n(out + i, load_n(in + i, n) * splat(factor) * load_n(weight + i, n), n);
      });
    }
  });
}

// One row: x, dy and dx point at it. dsum, where given, gains the row's part of dweight before dx may overwrite dy.
INLINE void rmsnorm_backward_row(const f32* x, const f32* weight, f32 rstd, const f32* dy, f32* dx, f32* dsum,
                                 isize width, bool accumulate) {
  f32 product = sum_over(width, [=](isize i, isize n) INLINE_LAMBDA {
    return load_n(dy + i, n) * load_n(weight + i, n) * load_n(x + i, n);
  });
  if (dsum)
    each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
      store_n(dsum + i, load_n(dsum + i, n) + load_n(dy + i, n) * (load_n(x + i, n) * splat(rstd)), n);
    });
  f32 pull = rstd * rstd * product / (f32)width;
  each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
    vf grad = load_n(dy + i, n) * load_n(weight + i, n) - load_n(x + i, n) * splat(pull);
    vf before = accumulate ? load_n(dx + i, n) : splat(0);
    store_n(dx + i, before + grad * splat(rstd), n);
  });
}

OLMOE_API void olmoe_rmsnorm_backward(const f32* x, isize ldx, const f32* weight, const f32* rstd, const f32* dy,
                                      isize lddy, f32* dx, isize lddx, f32* dweight, isize rows, isize width,
                                      isize accumulate) {
  isize least = task_rows(width), parts = part_count(rows, least);
  f32* sums = dweight ? scratch(SLOT_SHARED, parts * width) : nullptr;
  parallel_parts(rows, least, [=](isize part, isize begin, isize end) {
    f32* dsum = sums ? sums + part * width : nullptr;
    if (dsum) memset(dsum, 0, (size_t)width * sizeof(f32));
    for (isize row = begin; row < end; row++)
      rmsnorm_backward_row(x + row * ldx, weight, rstd[row], dy + row * lddy, dx + row * lddx, dsum, width, accumulate);
  });
  if (!dweight) return;
  each_vector(width, [=](isize i, isize n) INLINE_LAMBDA {
    vf sum = splat(0);
    for (isize part = 0; part < parts; part++) sum += load_n(sums + part * width + i, n);
    store_n(dweight + i, load_n(dweight + i, n) + sum, n);
  });
}
