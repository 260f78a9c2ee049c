// The dropless mixture of experts (OLMoE paper, section 2; MegaBlocks): slots sorted by expert, each expert's products over
// just its own rows. A task is one expert's block of rows, so cost follows the routed rows and not the number of experts.
#pragma once
#include "gemm.h"

OLMOE_API void olmoe_moe_plan(const i32* expert_ids, i32* offsets, i32* row_slot, i32* slot_row, isize tokens, isize experts,
                              isize top_k) {
  isize slots = tokens * top_k;
  memset(offsets, 0, (size_t)(experts + 1) * sizeof(i32));
  for (isize s = 0; s < slots; s++)
    if (expert_ids[s] >= 0) offsets[expert_ids[s] + 1]++;
  for (isize e = 0; e < experts; e++) offsets[e + 1] += offsets[e];
  // offsets[e] serves as expert e's next free row, and moves to the start of e + 1: shifted back at the end.
  for (isize s = 0; s < slots; s++) {
    i32 e = expert_ids[s];
    i32 row = e < 0 ? -1 : offsets[e]++;
    slot_row[s] = row;
    if (row >= 0) row_slot[row] = (i32)s;
  }
  for (isize e = experts; e > 0; e--) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
}

// Rows of one task: enough to pay for packing the expert's weights.
constexpr isize EXPERT_BLOCK = 512;

// One task: rows begin .. end of one expert.
struct ExpertRows {
  isize expert, begin, end;
};

// Splits every expert's rows in blocks of at most `block`; returns how many there are.
static isize expert_blocks(const i32* offsets, isize experts, isize block, ExpertRows* out) {
  isize count = 0;
  for (isize e = 0; e < experts; e++)
    for (isize begin = offsets[e]; begin < offsets[e + 1]; begin += block) {
      if (out) out[count] = {e, begin, minimum(begin + block, offsets[e + 1])};
      count++;
    }
  return count;
}

template <class F>
static void each_expert_block(const i32* offsets, isize experts, isize block, F task) {
  isize count = expert_blocks(offsets, experts, block, nullptr);
  ExpertRows* blocks = (ExpertRows*)scratch(SLOT_SHARED, count * (isize)(sizeof(ExpertRows) / sizeof(f32)));
  expert_blocks(offsets, experts, block, blocks);
  parallel_for(count, [&](isize i) { task(blocks[i]); });
}

constexpr isize POINTER_FLOATS = sizeof(void*) / sizeof(f32);

// The row of a token-major matrix that each of an expert's rows stands for. Looked up once: tiles ask for them again and
// again.
static const f32** token_rows(Slot slot, const f32* matrix, const i32* row_slot, isize begin, isize count, isize top_k,
                              isize width) {
  const f32** rows = (const f32**)scratch(slot, count * POINTER_FLOATS);
  for (isize r = 0; r < count; r++) rows[r] = matrix + row_slot[begin + r] / (i32)top_k * width;
  return rows;
}

// out[t] = sum over k of rows[slot_row[t, k]] * weights[t, k] (weights null: 1), in the order of k.
static void gather_sum(const f32* rows, const i32* slot_row, const f32* weights, f32* out, isize tokens, isize top_k,
                       isize width) {
  parallel_blocks(tokens, 64, [&](isize begin, isize end) {
    for (isize t = begin; t < end; t++)
      each_vector(width, [&](isize j, isize n) {
        vf sum = splat(0.0f);
        for (isize s = t * top_k; s < (t + 1) * top_k; s++) {
          if (slot_row[s] < 0) continue;
          vf value = load_n(rows + slot_row[s] * width + j, n);
          sum = weights ? sum + splat(weights[s]) * value : sum + value;
        }
        store_n(out + t * width + j, sum, n);
      });
  });
}

// activation = silu(gate) * up for one row of products [gate, up].
INLINE void swiglu_row(const f32* products, f32* activation, isize inner) {
  each_vector(inner, [&](isize j, isize n) {
    vf gate = load_n(products + j, n);
    store_n(activation + j, gate * sigmoid_vector(gate) * load_n(products + inner + j, n), n);
  });
}

OLMOE_API void olmoe_moe_forward(const f32* x, const f32* gate_up, const f32* down, const f32* weights, const i32* offsets,
                                 const i32* row_slot, const i32* slot_row, f32* hidden, f32* rows, f32* out, isize tokens,
                                 isize experts, isize top_k, isize width, isize inner) {
  each_expert_block(offsets, experts, EXPERT_BLOCK, [&](ExpertRows block) {
    isize count = block.end - block.begin;
    f32* products = hidden + block.begin * 2 * inner;
    const f32** tokens_of = token_rows(SLOT_E, x, row_slot, block.begin, count, top_k, width);
    SourceOfB up{gate_up + block.expert * 2 * inner * width, width, true};
    multiply_rows(count, 2 * inner, width, [=](isize r) { return tokens_of[r]; }, up, products, 2 * inner, false);

    f32* activation = scratch(SLOT_C, count * inner);
    for (isize r = 0; r < count; r++) swiglu_row(products + r * 2 * inner, activation + r * inner, inner);
    SourceOfB back{down + block.expert * width * inner, inner, true};
    multiply_rows(count, width, inner, [&](isize r) { return activation + r * inner; }, back, rows + block.begin * width,
                  width, false);
  });
  gather_sum(rows, slot_row, weights, out, tokens, top_k, width);
}

// One row of the backward pass through the activation. `dactivation` is the gradient of the row's output before its
// routing weight; the products become their own gradients; returns the gradient of the routing weight, which is the
// output's gradient times the output: the same sum taken over the inner width.
INLINE f32 swiglu_row_backward(f32* products, const f32* dactivation, f32 weight, f32* activation, isize inner) {
  vf dweight = splat(0.0f);
  each_vector(inner, [&](isize j, isize n) {
    vf gate = load_n(products + j, n), up = load_n(products + inner + j, n), dy = load_n(dactivation + j, n);
    vf sigmoid = sigmoid_vector(gate);
    vf silu = gate * sigmoid, value = silu * up;
    store_n(activation + j, value, n);
    dweight += dy * value;
    dy *= splat(weight);
    store_n(products + j, dy * up * (sigmoid + silu * (splat(1.0f) - sigmoid)), n);
    store_n(products + inner + j, dy * silu, n);
  });
  return sum_lanes(dweight);
}

// dgate_up[e] += dhidden^T x and ddown[e] += (weight * dout)^T activation, over the rows of each expert. A task is some
// of the output rows of one expert: more than one where experts are few, so that no thread is left without work.
static void expert_weight_gradients(const f32* x, const f32* weights, const i32* offsets, const i32* row_slot, const f32* dout,
                                    const f32* dhidden, const f32* activation, f32* dgate_up, f32* ddown, isize experts,
                                    isize top_k, isize width, isize inner) {
  isize parts = experts >= 8 ? 1 : (8 + experts - 1) / experts;
  parallel_for(experts * parts, [&](isize task) {
    isize e = task / parts, part = task % parts;
    isize begin = offsets[e], count = offsets[e + 1] - begin;
    if (count == 0) return;
    auto share = [&](isize n, isize& from) {
      isize size = round_up((n + parts - 1) / parts, MR);
      from = minimum(part * size, n);
      return minimum(size, n - from);
    };
    const f32** x_rows = token_rows(SLOT_D, x, row_slot, begin, count, top_k, width);
    const f32** dout_rows = token_rows(SLOT_E, dout, row_slot, begin, count, top_k, width);
    isize from, m;
    if (dgate_up && (m = share(2 * inner, from)) > 0)
      multiply_columns(
          m, width, count, [=](isize r) { return dhidden + (begin + r) * 2 * inner + from; }, Unscaled{},
          [=](isize r) { return x_rows[r]; }, dgate_up + (e * 2 * inner + from) * width, width);
    if (ddown && (m = share(width, from)) > 0)
      multiply_columns(
          m, inner, count, [=](isize r) { return dout_rows[r] + from; },
          [=](isize r) { return weights[row_slot[begin + r]]; },
          [=](isize r) { return activation + (begin + r) * inner; }, ddown + (e * width + from) * inner, inner);
  });
}

OLMOE_API void olmoe_moe_backward(const f32* x, const f32* gate_up, const f32* down, const f32* weights, const i32* offsets,
                                  const i32* row_slot, const i32* slot_row, const f32* dout, f32* hidden, f32* rows,
                                  f32* activation, f32* dx, f32* dweights, f32* dgate_up, f32* ddown, isize tokens,
                                  isize experts, isize top_k, isize width, isize inner) {
  memset(dweights, 0, (size_t)(tokens * top_k) * sizeof(f32));  // a slot without a row has no gradient
  each_expert_block(offsets, experts, EXPERT_BLOCK, [&](ExpertRows block) {
    isize count = block.end - block.begin;
    auto slot = [&](isize r) { return (isize)row_slot[block.begin + r]; };
    f32* dactivation = scratch(SLOT_C, count * inner);
    SourceOfB back{down + block.expert * width * inner, inner, false};
    const f32** dout_rows = token_rows(SLOT_E, dout, row_slot, block.begin, count, top_k, width);
    multiply_rows(count, inner, width, [=](isize r) { return dout_rows[r]; }, back, dactivation, inner, false);
    for (isize r = 0; r < count; r++) {
      isize row = block.begin + r;
      dweights[slot(r)] = swiglu_row_backward(hidden + row * 2 * inner, dactivation + r * inner, weights[slot(r)],
                                              activation + row * inner, inner);
    }
    SourceOfB up{gate_up + block.expert * 2 * inner * width, width, false};
    multiply_rows(count, width, 2 * inner, [&](isize r) { return hidden + (block.begin + r) * 2 * inner; }, up,
                  rows + block.begin * width, width, false);
  });
  if (dgate_up || ddown)
    expert_weight_gradients(x, weights, offsets, row_slot, dout, hidden, activation, dgate_up, ddown, experts, top_k, width,
                            inner);
  gather_sum(rows, slot_row, nullptr, dx, tokens, top_k, width);
}
