// The router: softmax over experts, the choice of the most probable, gradients and load statistics.
#pragma once
#include "blocks.h"

// A token costs more than its logits suggest, because of the choice: fewer tokens make up a task.
INLINE isize router_tokens(isize experts) { return maximum(1, TASK_ELEMENTS / 4 / maximum(1, experts)); }

// probs = softmax(logits) of one token; returns logsumexp. In-place use is allowed.
INLINE f32 router_softmax(const f32* logits, f32* probs, isize count) {
  f32 most = max_over(logits, count);
  f32 sum = sum_over(count, [=](isize i, isize n) INLINE_LAMBDA {
    vf e = exp_below(load_n(logits + i, n, -__builtin_inff()) - splat(most));
    store_n(probs + i, e, n);
    return e;
  });
  each_vector(count, [=](isize i, isize n) INLINE_LAMBDA {
    store_n(probs + i, load_n(probs + i, n) / splat(sum), n);
  });
  return most + __builtin_logf(sum);
}

// The top_k most probable, by insertion in a sorted list: a later one passes an earlier one only where it is larger.
// What is not a number ranks below every probability, so that ids are valid and distinct whatever the logits are.
INLINE void choose_top(const f32* probs, i32* ids, f32* weights, isize count, isize top_k) {
  isize found = 0;
  for (isize e = 0; e < count && top_k > 0; e++) {
    f32 p = probs[e] >= 0 ? probs[e] : -1;
    if (found == top_k && !(p > weights[top_k - 1])) continue;
    isize k = found < top_k ? found++ : top_k - 1;
    for (; k > 0 && p > weights[k - 1]; k--) {
      weights[k] = weights[k - 1];
      ids[k] = ids[k - 1];
    }
    weights[k] = p;
    ids[k] = (i32)e;
  }
  for (isize k = 0; k < found; k++) weights[k] = probs[ids[k]];
}

OLMOE_API void olmoe_router_forward(const f32* logits, f32* probs, f32* lse, i32* expert_ids, f32* expert_weights,
                                    isize tokens, isize experts, isize top_k, isize normalise) {
  parallel_blocks(tokens, router_tokens(experts), [=](isize begin, isize end) {
    for (isize t = begin; t < end; t++) {
      f32* row = probs + t * experts;
      i32* ids = expert_ids + t * top_k;
      f32* weights = expert_weights + t * top_k;
      lse[t] = router_softmax(logits + t * experts, row, experts);
      choose_top(row, ids, weights, experts, top_k);
      if (!normalise) continue;
      f32 sum = 0;
      for (isize k = 0; k < top_k; k++) sum += weights[k];
      for (isize k = 0; k < top_k; k++) weights[k] /= sum;
    }
  });
}

// Adds the gradient of one token's chosen weights to dprobs. Normalised weights are w = p / S, so that
// dp = (dw - sum(dw * w)) / S; the kept slots give S as sum(p) / sum(w).
INLINE void add_weight_gradient(const f32* probs, const i32* ids, const f32* weights, const f32* dweights, f32* dprobs,
                                isize top_k, bool normalise) {
  f32 inner = 0, factor = 1;
  if (normalise) {
    f32 kept_probs = 0, kept_weights = 0;
    for (isize k = 0; k < top_k; k++) {
      if (ids[k] < 0) continue;
      kept_probs += probs[ids[k]];
      kept_weights += weights[k];
      inner += dweights[k] * weights[k];
    }
    factor = kept_probs > 0 ? kept_weights / kept_probs : 0;
  }
  for (isize k = 0; k < top_k; k++)
    if (ids[k] >= 0) dprobs[ids[k]] += (dweights[k] - inner) * factor;
}

// dlogits first holds the gradient of probs, and then p * (dp - sum(p * dp)) and the z-loss term.
OLMOE_API void olmoe_router_backward(const f32* probs, const f32* lse, const i32* expert_ids, const f32* expert_weights,
                                     const f32* dweights, const f32* prob_grad, const f32* token_mask, f32 z_coef,
                                     f32* dlogits, isize tokens, isize experts, isize top_k, isize normalise) {
  parallel_rows(tokens, experts, [=](isize begin, isize end) {
    for (isize t = begin; t < end; t++) {
      const f32* p = probs + t * experts;
      f32* row = dlogits + t * experts;
      f32 mask = token_mask ? token_mask[t] : 1;
      each_vector(experts, [=](isize i, isize n) INLINE_LAMBDA {
        store_n(row + i, prob_grad ? load_n(prob_grad + i, n) * splat(mask) : splat(0), n);
      });
      if (dweights)
        add_weight_gradient(p, expert_ids + t * top_k, expert_weights + t * top_k, dweights + t * top_k, row, top_k,
                            normalise);
      f32 mean =
          sum_over(experts, [=](isize i, isize n) INLINE_LAMBDA { return load_n(p + i, n) * load_n(row + i, n); });
      f32 shift = 2 * z_coef * mask * lse[t] - mean;
      each_vector(experts, [=](isize i, isize n) INLINE_LAMBDA {
        store_n(row + i, load_n(p + i, n) * (load_n(row + i, n) + splat(shift)), n);
      });
    }
  });
}

// Adds one token to stats.
INLINE void add_token_stats(const f32* probs, f32 lse, const i32* ids, f64 weight, f64* stats, isize experts,
                            isize top_k) {
  for (isize k = 0; k < top_k; k++) {
    if (ids[k] < 0) continue;
    stats[ids[k]] += weight;
    stats[2 * experts + 1] += weight * (f64)probs[ids[k]];
  }
  for (isize e = 0; e < experts; e++) stats[experts + e] += weight * (f64)probs[e];
  stats[2 * experts] += weight * (f64)lse * (f64)lse;
}

OLMOE_API void olmoe_router_stats(const f32* probs, const f32* lse, const i32* expert_ids, const f32* token_mask,
                                  f64* stats, isize tokens, isize experts, isize top_k) {
  isize size = 2 * experts + 2, least = task_rows(experts);
  f64* sums = (f64*)scratch(SLOT_SHARED, part_count(tokens, least) * size * 2);
  parallel_parts(tokens, least, [=](isize part, isize begin, isize end) {
    f64* sum = sums + part * size;
    for (isize i = 0; i < size; i++) sum[i] = 0;
    for (isize t = begin; t < end; t++) {
      f64 weight = token_mask ? (f64)token_mask[t] : 1;
      // A token that is masked out counts for nothing even where its values are not numbers.
      if (weight == 0) continue;
      add_token_stats(probs + t * experts, lse[t], expert_ids + t * top_k, weight, sum, experts, top_k);
    }
  });
  for (isize i = 0; i < size; i++) {
    stats[i] = 0;
    for (isize part = 0; part < part_count(tokens, least); part++) stats[i] += sums[part * size + i];
  }
}
