// AdamW (Loshchilov and Hutter, arXiv 1711.05101) in a single pass over memory.
#pragma once
#include "blocks.h"

OLMOE_API void olmoe_adamw(f32* param, const f32* grad, f32* m, f32* v, isize count, f32 lr, f32 beta1, f32 beta2,
                           f32 epsilon, f32 weight_decay, f32 bias1, f32 bias2, f32 grad_scale) {
  f32 keep = 1 - lr * weight_decay, step = lr / bias1, spread = 1 / __builtin_sqrtf(bias2);
  parallel_vectors(count, [=](isize i, isize n) INLINE_LAMBDA {
    vf g = load_n(grad + i, n) * splat(grad_scale);
    vf mean = load_n(m + i, n) * splat(beta1) + g * splat(1 - beta1);
    vf square = load_n(v + i, n) * splat(beta2) + g * g * splat(1 - beta2);
    vf denominator = sqrt_vector(square) * splat(spread) + splat(epsilon);
    store_n(param + i, load_n(param + i, n) * splat(keep) - splat(step) * mean / denominator, n);
    store_n(m + i, mean, n);
    store_n(v + i, square, n);
  });
}
