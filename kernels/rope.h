// Rotary positions: the pair (a, b) = (x[i], x[i + C/2]) turns by an angle of position and i.
#pragma once
#include "blocks.h"

OLMOE_API void olmoe_rope(f32* x, isize ldx, const i32* positions, const f32* cosine, const f32* sine, isize tokens,
                          isize heads, isize channels, isize inverse) {
  isize half = channels / 2;
  vf direction = splat(inverse ? -1 : 1);
  parallel_rows(tokens, heads * channels, [=](isize begin, isize end) {
    for (isize t = begin; t < end; t++) {
      const f32* cosines = cosine + positions[t] * half;
      const f32* sines = sine + positions[t] * half;
      for (isize head = 0; head < heads; head++) {
        f32* first = x + t * ldx + head * channels;
        f32* second = first + half;
        each_vector(half, [=](isize i, isize n) INLINE_LAMBDA {
          vf a = load_n(first + i, n), b = load_n(second + i, n);
          vf c = load_n(cosines + i, n), s = load_n(sines + i, n) * direction;
          store_n(first + i, a * c - b * s, n);
          store_n(second + i, b * c + a * s, n);
        });
      }
    }
  });
}
