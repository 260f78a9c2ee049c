// Kernels over weights as files store them: matrices given by their addresses, one part here and one there, which are read
// where they are. What a product computes and in which order is in dots.h (f32) and products32.h, products256.h (8 bits).
#pragma once
#include "dots.h"
#include "moe.h"
#include "products256.h"
#if defined(__AMX_INT8__)
#include "int8_tiles.h"
#endif

// f(products) for types that are multiplied by rounded activations.
template <class F>
INLINE bool with_products(isize type, F f) {
  switch (type) {
    case BlockQ4_0::ID: return f(Products32<Weights4_0>{}), true;
    case BlockQ4_1::ID: return f(Products32<Weights4_1>{}), true;
    case BlockQ5_0::ID: return f(Products32<Weights5_0>{}), true;
    case BlockQ5_1::ID: return f(Products32<Weights5_1>{}), true;
    case BlockQ8_0::ID: return f(Products32<Weights8_0>{}), true;
    case BlockQ4_K::ID: return f(Products256<Weights4_K>{}), true;
    case BlockQ5_K::ID: return f(Products256<Weights5_K>{}), true;
    case BlockQ6_K::ID: return f(Products256<Weights6_K>{}), true;
  }
  return false;
}

// Matrices of one type and size, and how their products are computed.
struct StoredMatrices {
  isize type;
  const f64* parts;
  isize rows, columns;
  bool rounds;  // activations
  isize row_bytes;
};

static StoredMatrices stored_matrices(isize type, const f64* parts, isize rows, isize columns, isize activations) {
  isize row_bytes = 0;
  with_block_type(type, [&](auto* block) {
    typedef std::remove_pointer_t<decltype(block)> Block;
    row_bytes = columns / Block::VALUES * (isize)sizeof(Block);
  });
  return {type, parts, rows, columns, activations != 0 && with_products(type, [](auto) {}), row_bytes};
}

// One row of activations as the products want it, where it is not to stay f32.
static void round_for(isize type, const f32* x, f32* row, isize columns) {
  with_products(type, [&](auto products) { round_row<typename decltype(products)::Rounded>(x, row, columns); });
}

// Tokens whose activations, rounded or packed, are in scratch memory at a time.
constexpr isize MOST_TOKENS = 512;

// y[i * ldy + r - begin] for rows begin .. end of a part. x are f32 rows, or rounded ones.
static void multiply_stored(const StoredMatrices& w, isize part, isize begin, isize end, const f32* const* x, isize inputs,
                            f32* y, isize ldy) {
  const u8* rows = (const u8*)(uintptr_t)w.parts[part] + begin * w.row_bytes;
  isize count = end - begin;
  for (isize i = 0; i < inputs; i += MOST_TOKENS, x += MOST_TOKENS, y += MOST_TOKENS * ldy) {
    isize some = minimum(MOST_TOKENS, inputs - i);
    if (!w.rounds) {
      with_block_type(w.type, [&](auto* block) {
        dot_rows<std::remove_pointer_t<decltype(block)>>(rows, w.row_bytes, count, w.columns, x, some, y, ldy);
      });
      continue;
    }
    with_products(w.type, [&](auto products) {
      typedef decltype(products) Products;
      isize whole = some > STREAMED_TOKENS ? count / LANES * LANES : 0;
      if (whole > 0) multiply_packed<Products>(rows, w.row_bytes, whole, w.columns, x, some, y, ldy);
      if (whole < count)
        Products::stream(rows + whole * w.row_bytes, w.row_bytes, count - whole, w.columns, x, some, y + whole, ldy);
    });
  }
}

// task(part, rows begin .. end of it) over the rows of all parts, each multiplied by about so many tokens. Where weights stream,
// tasks take a share of the rows that are left: they read on for long, because each beginning waits for memory, and no thread
// waits for long at the end. Where panels pack their tokens once a task, all are long.
template <class F>
static void parallel_parts_rows(isize parts, isize rows, isize tokens, F task) {
  constexpr isize LEAST = 64;
  isize all = parts * rows, share = 2 * thread_count, equal = round_up(minimum(maximum(all / share, LEAST), 1024), LEAST);
  isize* borders = (isize*)scratch(SLOT_TASKS, (all / LEAST + 2) * POINTER_FLOATS);
  isize count = 0;
  for (isize begin = borders[0] = 0; begin < all; begin = borders[++count]) {
    isize size = tokens > STREAMED_TOKENS ? equal : maximum(round_up((all - begin) / share, LEAST), LEAST);
    borders[count + 1] = minimum(begin + size, all);
  }
  parallel_for(count, [&](isize i) {
    for (isize begin = borders[i], end; begin < borders[i + 1]; begin = end) {
      isize part = begin / rows, first = part * rows;
      end = minimum(borders[i + 1], first + rows);
      task(part, begin - first, end - first);
    }
  });
}

// Pointers to `count` rows of x, `ld` floats apart, in memory of the calling thread.
static const f32** row_pointers(Slot slot, const f32* x, isize ld, isize count) {
  const f32** rows = (const f32**)scratch(slot, count * POINTER_FLOATS);
  for (isize i = 0; i < count; i++) rows[i] = x + i * ld;
  return rows;
}

OLMOE_API void olmoe_stored_linear(isize type, const f64* parts, isize part_count, isize rows, isize columns, const f32* x,
                                   isize ldx, f32* y, isize ldy, isize tokens, isize activations) {
  StoredMatrices w = stored_matrices(type, parts, rows, columns, activations);
  isize ld = rounded_floats(columns);
  for (isize first = 0; first < tokens; first += MOST_TOKENS) {
    isize count = minimum(MOST_TOKENS, tokens - first);
    const f32* in = x + first * ldx;
    f32* memory = w.rounds ? scratch(SLOT_SHARED, count * ld) : nullptr;
    if (w.rounds)
      parallel_rows(count, columns, [&](isize begin, isize end) {
        for (isize t = begin; t < end; t++) round_for(type, in + t * ldx, memory + t * ld, columns);
      });
    parallel_parts_rows(part_count, rows, count, [&](isize part, isize begin, isize end) {
      const f32** inputs = w.rounds ? row_pointers(SLOT_E, memory, ld, count) : row_pointers(SLOT_E, in, ldx, count);
      multiply_stored(w, part, begin, end, inputs, count, y + first * ldy + part * rows + begin, ldy);
    });
  }
}

OLMOE_API void olmoe_stored_embedding(isize type, const f64* parts, const i32* ids, f32* out, isize tokens, isize width) {
  StoredMatrices table = stored_matrices(type, parts, 0, width, 0);
  parallel_rows(tokens, width, [=](isize begin, isize end) {
    for (isize t = begin; t < end; t++)
      decode_row(type, (const u8*)(uintptr_t)table.parts[0] + ids[t] * table.row_bytes, out + t * width, width);
  });
}

// task(expert, part of it, rows begin .. end of the part) over all experts that have rows.
template <class F>
static void each_expert_rows(const i32* offsets, isize experts, isize parts, isize rows, F task) {
  isize* busy = (isize*)scratch(SLOT_SHARED, maximum(experts, 1) * POINTER_FLOATS);
  isize count = 0;
  for (isize e = 0; e < experts; e++)
    if (offsets[e + 1] > offsets[e]) busy[count++] = e;
  parallel_parts_rows(count * parts, rows, offsets[experts] / maximum(count, 1), [&](isize part, isize begin, isize end) {
    task(busy[part / parts], part % parts, begin, end);
  });
}

OLMOE_API void olmoe_stored_experts(isize gate_up_type, const f64* gate_up, isize down_type, const f64* down, const f32* x,
                                    const f32* weights, const i32* offsets, const i32* row_slot, const i32* slot_row,
                                    f32* hidden, f32* rows, f32* out, isize tokens, isize experts, isize top_k, isize width,
                                    isize inner, isize activations) {
  StoredMatrices up = stored_matrices(gate_up_type, gate_up, inner, width, activations);
  StoredMatrices back = stored_matrices(down_type, down, width, inner, activations);
  // Rounded activations take less room than their f32: those of x lie in `out` until it is written, those of the products in
  // the place of the products.
  if (up.rounds)
    parallel_rows(tokens, width, [&](isize begin, isize end) {
      for (isize t = begin; t < end; t++) round_for(up.type, x + t * width, out + t * width, width);
    });
  const f32* in = up.rounds ? out : x;
  each_expert_rows(offsets, experts, 2, inner, [&](isize expert, isize part, isize begin, isize end) {
    isize first = offsets[expert], count = offsets[expert + 1] - first;
    const f32** inputs = token_rows(SLOT_E, in, row_slot, first, count, top_k, width);
    multiply_stored(up, expert * 2 + part, begin, end, inputs, count, hidden + first * 2 * inner + part * inner + begin,
                    2 * inner);
  });
  parallel_rows(offsets[experts], 2 * inner, [&](isize begin, isize end) {
    f32* activation = scratch(SLOT_C, inner);
    for (isize r = begin; r < end; r++) {
      f32* products = hidden + r * 2 * inner;
      swiglu_row(products, back.rounds ? activation : products, inner);
      if (back.rounds) round_for(back.type, activation, products, inner);
    }
  });
  each_expert_rows(offsets, experts, 1, width, [&](isize expert, isize, isize begin, isize end) {
    isize first = offsets[expert], count = offsets[expert + 1] - first;
    const f32** inputs = row_pointers(SLOT_E, hidden + first * 2 * inner, 2 * inner, count);
    multiply_stored(back, expert, begin, end, inputs, count, rows + first * width + begin, width);
  });
  gather_sum(rows, slot_row, weights, out, tokens, top_k, width);
}
