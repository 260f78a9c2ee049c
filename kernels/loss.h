// Cross-entropy over the vocabulary, fused with its gradient: a row passes the cache three times and memory once.
#pragma once
#include "blocks.h"

// The sum of exp(x - most) over a row, in f32 over short runs and in f64 over the runs; the terms replace x when KEEP.
template <bool KEEP>
INLINE f64 exp_sum(f32* x, isize count, f32 most) {
  constexpr isize RUN = 64 * LANES;
  f64 total = 0;
  for (isize begin = 0; begin < count; begin += RUN) {
    f32* run = x + begin;
    total += (f64)sum_over(minimum(RUN, count - begin), [=](isize i, isize n) INLINE_LAMBDA {
      vf e = exp_below(load_n(run + i, n, -__builtin_inff()) - splat(most));
      if (KEEP) store_n(run + i, e, n);
      return e;
    });
  }
  return total;
}

INLINE f32 cross_entropy_row(f32* logits, isize label, isize vocabulary, f32 scale) {
  f32 most = max_over(logits, vocabulary), chosen = logits[label];
  f64 sum = scale != 0 ? exp_sum<true>(logits, vocabulary, most) : exp_sum<false>(logits, vocabulary, most);
  if (scale != 0) {
    vf factor = splat((f32)((f64)scale / sum));
    each_vector(vocabulary, [=](isize i, isize n) INLINE_LAMBDA {
      store_n(logits + i, load_n(logits + i, n) * factor, n);
    });
    logits[label] -= scale;
  }
  return (f32)((f64)most - (f64)chosen + __builtin_log(sum));
}

OLMOE_API void olmoe_cross_entropy(f32* logits, const i32* labels, f32* losses, isize tokens, isize vocabulary,
                                   f32 scale) {
  parallel_rows(tokens, vocabulary, [=](isize begin, isize end) {
    for (isize t = begin; t < end; t++) {
      f32* row = logits + t * vocabulary;
      losses[t] = labels[t] < 0 ? 0 : cross_entropy_row(row, labels[t], vocabulary, scale);
      if (labels[t] < 0 && scale != 0) memset(row, 0, (size_t)vocabulary * sizeof(f32));
    }
  });
}
