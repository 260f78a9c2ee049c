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

// Rows of an expert that are worked on together: enough to pay for packing its weights, few enough to stay near.
constexpr isize EXPERT_BLOCK = 512;
// From this many experts on, a task is an expert with all its rows.
constexpr isize MANY_EXPERTS = 8;

// One task: rows begin .. end of one expert.
struct ExpertRows {
  isize expert, begin, end;
};

// Calls task(rows, next) for every expert's rows, in blocks of EXPERT_BLOCK where `split`. The largest come first, so that no
// thread is left with a long one at the end; `next` is what the thread is likely to get afterwards.
template <class F>
static void each_expert(const i32* offsets, isize experts, bool split, F task) {
  isize most = experts + (split ? offsets[experts] / EXPERT_BLOCK : 0), count = 0;
  ExpertRows* list = (ExpertRows*)scratch(SLOT_SHARED, maximum(most, 1) * (isize)(sizeof(ExpertRows) / sizeof(f32)));
  auto rows = [](const ExpertRows& one) { return one.end - one.begin; };
  for (isize e = 0; e < experts; e++)
    for (isize begin = offsets[e]; begin < offsets[e + 1];) {
      isize end = split ? minimum(begin + EXPERT_BLOCK, offsets[e + 1]) : offsets[e + 1];
      ExpertRows next{e, begin, end};
      isize place = count++;
      for (; place > 0 && rows(list[place - 1]) < rows(next); place--) list[place] = list[place - 1];
      list[place] = next;
      begin = end;
    }
  parallel_for(count, [&](isize i) { task(list[i], list[minimum(i + thread_count, count - 1)]); });
}

// The weights of an expert.
static Ahead weights_ahead(const f32* gate_up, const f32* down, isize expert, isize width, isize inner) {
  isize size = width * inner;
  const f32 *first = gate_up + expert * 2 * size, *second = down + expert * size;
  return {(const char*)first, (const char*)(first + 2 * size), (const char*)second, (const char*)(second + size)};
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
  each_expert(offsets, experts, true, [&](ExpertRows block, ExpertRows next) {
    Ahead ahead = weights_ahead(gate_up, down, next.expert, width, inner);
    isize count = block.end - block.begin;
    f32* gate_and_up = hidden + block.begin * 2 * inner;
    const f32** tokens_of = token_rows(SLOT_E, x, row_slot, block.begin, count, top_k, width);
    SourceOfB up{gate_up + block.expert * 2 * inner * width, width, true};
    products::multiply_rows(count, 2 * inner, width, [=](isize r) { return tokens_of[r]; }, up, gate_and_up, 2 * inner, false,
                            &ahead);

    f32* activation = scratch(SLOT_C, count * inner);
    for (isize r = 0; r < count; r++) swiglu_row(gate_and_up + r * 2 * inner, activation + r * inner, inner);
    SourceOfB back{down + block.expert * width * inner, inner, true};
    products::multiply_rows(count, width, inner, [&](isize r) { return activation + r * inner; }, back,
                            rows + block.begin * width, width, false, &ahead);
  });
  gather_sum(rows, slot_row, weights, out, tokens, top_k, width);
}

// One row of the backward pass through the activation. `dactivation` is the gradient of the row's output before its
// routing weight; the products become their own gradients, the activation is stored times the weight, as ddown needs it.
// Returns the gradient of the routing weight, which is the output's gradient times the output: the same sum taken over the
// inner width.
INLINE f32 swiglu_row_backward(f32* products, const f32* dactivation, f32 weight, f32* activation, isize inner) {
  vf dweight = splat(0.0f);
  each_vector(inner, [&](isize j, isize n) {
    vf gate = load_n(products + j, n), up = load_n(products + inner + j, n), dy = load_n(dactivation + j, n);
    vf sigmoid = sigmoid_vector(gate);
    vf silu = gate * sigmoid, value = silu * up;
    store_n(activation + j, value * splat(weight), n);
    dweight += dy * value;
    dy *= splat(weight);
    store_n(products + j, dy * up * (sigmoid + silu * (splat(1.0f) - sigmoid)), n);
    store_n(products + inner + j, dy * silu, n);
  });
  return sum_lanes(dweight);
}

// What the backward pass of one expert reads and writes; offsets are those of the rows in question.
struct ExpertBackward {
  const f32 *x, *gate_up, *down, *weights;
  const i32* row_slot;
  const f32* dout;
  f32 *hidden, *rows, *activation, *dweights, *dgate_up, *ddown;
  bool add_gate_up, add_down;
  isize top_k, width, inner;
};

// Gradients of the rows themselves: of their routing weights, of the products before the activation (in place of the
// products) and of their inputs. Leaves the weighted activation for ddown.
static void expert_row_gradients(const ExpertBackward& job, ExpertRows block, Ahead* ahead) {
  isize count = block.end - block.begin, inner = job.inner, width = job.width;
  f32* dactivation = scratch(SLOT_C, count * inner);
  SourceOfB back{job.down + block.expert * width * inner, inner, false};
  const f32** dout_rows = token_rows(SLOT_E, job.dout, job.row_slot, block.begin, count, job.top_k, width);
  products::multiply_rows(count, inner, width, [=](isize r) { return dout_rows[r]; }, back, dactivation, inner, false,
                          ahead);
  f32* dhidden = job.hidden + block.begin * 2 * inner;
  for (isize r = 0; r < count; r++) {
    isize slot = job.row_slot[block.begin + r];
    job.dweights[slot] = swiglu_row_backward(dhidden + r * 2 * inner, dactivation + r * inner, job.weights[slot],
                                             job.activation + (block.begin + r) * inner, inner);
  }
  SourceOfB up{job.gate_up + block.expert * 2 * inner * width, width, false};
  products::multiply_rows(count, width, 2 * inner, [=](isize r) { return dhidden + r * 2 * inner; }, up,
                          job.rows + block.begin * width, width, false, ahead);
}

// dgate_up[e] (+)= dhidden^T x and ddown[e] (+)= dout^T (weighted activation), over rows of one expert, of which these are
// the `first` or further ones; of the outputs' rows, part number `part` of `parts`.
static void expert_weight_gradients(const ExpertBackward& job, ExpertRows block, bool first, isize part, isize parts) {
  isize begin = block.begin, count = block.end - begin, inner = job.inner, width = job.width;
  auto share = [&](isize n, isize& from) {
    isize size = round_up((n + parts - 1) / parts, 16);
    from = minimum(part * size, n);
    return minimum(size, n - from);
  };
  const f32** x_rows = token_rows(SLOT_D, job.x, job.row_slot, begin, count, job.top_k, width);
  const f32** dout_rows = token_rows(SLOT_E, job.dout, job.row_slot, begin, count, job.top_k, width);
  isize from, m;
  if (job.dgate_up && (m = share(2 * inner, from)) > 0)
    products::multiply_columns(
        m, width, count, [=](isize r) { return job.hidden + (begin + r) * 2 * inner + from; },
        [=](isize r) { return x_rows[r]; }, job.dgate_up + (block.expert * 2 * inner + from) * width, width,
        job.add_gate_up || !first);
  if (job.ddown && (m = share(width, from)) > 0)
    products::multiply_columns(
        m, inner, count, [=](isize r) { return dout_rows[r] + from; },
        [=](isize r) { return job.activation + (begin + r) * inner; },
        job.ddown + (block.expert * width + from) * inner, inner, job.add_down || !first);
}

OLMOE_API void olmoe_moe_backward(const f32* x, const f32* gate_up, const f32* down, const f32* weights, const i32* offsets,
                                  const i32* row_slot, const i32* slot_row, const f32* dout, f32* hidden, f32* rows,
                                  f32* activation, f32* dx, f32* dweights, f32* dgate_up, f32* ddown,
                                  isize accumulate_gate_up, isize accumulate_down, isize tokens, isize experts,
                                  isize top_k, isize width, isize inner) {
  memset(dweights, 0, (size_t)(tokens * top_k) * sizeof(f32));  // a slot without a row has no gradient
  ExpertBackward job{x,       gate_up,  down,     weights, row_slot,                dout,                 hidden, rows,
                     activation, dweights, dgate_up, ddown,   accumulate_gate_up != 0, accumulate_down != 0, top_k,  width,
                     inner};
  bool many = experts >= MANY_EXPERTS;
  // With many experts one task does all of an expert while its rows are near; with few, threads share an expert: its rows
  // first, and then parts of its weights. Sums over rows run in the same blocks either way.
  each_expert(offsets, experts, !many, [&](ExpertRows all, ExpertRows next) {
    Ahead ahead = weights_ahead(gate_up, down, next.expert, width, inner);
    for (isize begin = all.begin; begin < all.end; begin += EXPERT_BLOCK) {
      ExpertRows block{all.expert, begin, minimum(begin + EXPERT_BLOCK, all.end)};
      expert_row_gradients(job, block, &ahead);
      if (many) expert_weight_gradients(job, block, begin == all.begin, 0, 1);
    }
  });
  if (dgate_up || ddown) {
    // What is left: with few experts everything, else the gradients of those without rows.
    isize parts = (MANY_EXPERTS + experts - 1) / experts;
    parallel_for(experts * parts, [&](isize task) {
      isize e = task / parts;
      if (many && offsets[e] < offsets[e + 1]) return;
      expert_weight_gradients(job, {e, offsets[e], offsets[e + 1]}, true, task % parts, parts);
    });
  }
  gather_sum(rows, slot_row, nullptr, dx, tokens, top_k, width);
}
