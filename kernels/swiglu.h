// SwiGLU: silu(gate) * up with silu(g) = g * sigmoid(g).
#pragma once
#include "blocks.h"

OLMOE_API void olmoe_swiglu_forward(const f32* gate_up, f32* y, isize rows, isize inner) {
  parallel_rows(rows, 2 * inner, [=](isize begin, isize end) {
    for (isize row = begin; row < end; row++) {
      const f32 *gate = gate_up + row * 2 * inner, *up = gate + inner;
      f32* out = y + row * inner;
      each_vector(inner, [=](isize i, isize n) INLINE_LAMBDA {
        vf g = load_n(gate + i, n);
        store_n(out + i, g * sigmoid_vector(g) * load_n(up + i, n), n);
      });
    }
  });
}

// dgate = dy * up * s * (1 + gate * (1 - s)) and dup = dy * gate * s with s = sigmoid(gate).
OLMOE_API void olmoe_swiglu_backward(const f32* gate_up, const f32* dy, f32* dgate_up, isize rows, isize inner) {
  parallel_rows(rows, 2 * inner, [=](isize begin, isize end) {
    for (isize row = begin; row < end; row++) {
      const f32 *gate = gate_up + row * 2 * inner, *up = gate + inner, *grad = dy + row * inner;
      f32 *dgate = dgate_up + row * 2 * inner, *dup = dgate + inner;
      each_vector(inner, [=](isize i, isize n) INLINE_LAMBDA {
        vf g = load_n(gate + i, n), u = load_n(up + i, n), d = load_n(grad + i, n);
        vf s = sigmoid_vector(g), one = splat(1);
        store_n(dgate + i, d * u * (s * (one + g * (one - s))), n);
        store_n(dup + i, d * (g * s), n);
      });
    }
  });
}
