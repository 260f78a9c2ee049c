// Rows of a table by token id, and their gradient.
#pragma once
#include "blocks.h"

OLMOE_API void olmoe_embedding_forward(const f32* table, const i32* ids, f32* out, isize tokens, isize width) {
  parallel_rows(tokens, width, [=](isize begin, isize end) {
    for (isize t = begin; t < end; t++) memcpy(out + t * width, table + ids[t] * width, (size_t)width * sizeof(f32));
  });
}

// Tasks share no column: each walks all tokens in order, so that repeated ids add up in one order.
OLMOE_API void olmoe_embedding_backward(f32* dtable, const i32* ids, const f32* dout, isize tokens, isize width) {
  constexpr isize COLUMNS = 64;
  parallel_blocks(width, tokens * width <= TASK_ELEMENTS ? maximum(1, width) : COLUMNS, [=](isize begin, isize end) {
    for (isize t = 0; t < tokens; t++) {
      f32* to = dtable + ids[t] * width + begin;
      const f32* from = dout + t * width + begin;
      each_vector(end - begin, [=](isize i, isize n) INLINE_LAMBDA {
        store_n(to + i, load_n(to + i, n) + load_n(from + i, n), n);
      });
    }
  });
}
