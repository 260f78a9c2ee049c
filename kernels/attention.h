// Softmax attention in tiles (FlashAttention's scheme): scores exist for one tile of queries and keys at a time, with a
// running maximum and sum for each query, so that memory grows with the length and not with its square. A task is
// one key/value head of one sequence, with all the query heads that share it.
#pragma once
#include "gemm.h"

// The forward pass wants long rows of scores, for one softmax each; the backward pass holds two tiles, and short ones.
constexpr isize KEY_UNIT = NR > 32 ? NR : 32;
constexpr isize FORWARD_QUERIES = 24, FORWARD_KEYS = 4 * KEY_UNIT;
constexpr isize BACKWARD_QUERIES = 48, BACKWARD_KEYS = 2 * KEY_UNIT;

// Which of a tile's keys one query sees: low .. high.
struct Visible {
  isize low, high;
};
INLINE Visible visible_keys(const i32* kv_start, isize query, isize position, isize first_key, isize keys) {
  isize start = kv_start ? kv_start[query] : 0;
  isize low = start > first_key ? start - first_key : 0;
  return {low, minimum(position + 1 - first_key, keys)};
}

// C[m, n] (+)= A B for a tile, A by rows of stride lda.
INLINE void multiply_tile_rows(isize m, isize n, isize k, const f32* a, isize lda, const PanelsOfB& b, f32* c, isize ldc,
                               bool add) {
  multiply_panels(
      m, n, k, [=](isize i, isize rows) { return rows_of(a + i * lda, lda, rows); }, b, c, ldc, add);
}

// C[m, n] += A^T B for a tile, A[k, m] of the backward pass's scores.
INLINE void multiply_tile_columns(isize m, isize n, isize k, const f32* a, const PanelsOfB& b, f32* c, isize ldc) {
  multiply_panels(
      m, n, k, [=](isize i, isize) { return ColumnsOfA{a + i, BACKWARD_KEYS}; }, b, c, ldc, true);
}

INLINE void scale_row(f32* x, isize count, f32 factor) {
  each_vector(count, [&](isize j, isize n) { store_n(x + j, load_n(x + j, n) * splat(factor), n); });
}

// f(j, x) for each vector of a row of scores, what is not visible being `hidden`. Rows of a tile end on a vector's border.
template <class F>
INLINE void each_score(const f32* scores, Visible see, isize keys, f32 hidden, F f) {
  bool all = see.low <= 0 && see.high >= keys && keys % LANES == 0;
  for (isize j = 0; j < keys; j += LANES) {
    vf x = load(scores + j);
    if (!all) {
      vi place = lane_numbers() + (i32)j;
      x = choose((place >= (i32)see.low) & (place < (i32)see.high), x, splat(hidden));
    }
    f(j, x);
  }
}

// The largest score that a query sees, -infinity where there is none; not-a-number is left out.
INLINE f32 highest_score(const f32* scores, Visible see, isize keys) {
  const f32 nothing = -__builtin_inff();
  vf best = splat(nothing);
  each_score(scores, see, keys, nothing, [&](isize, vf x) INLINE_LAMBDA { best = maximum(x, best); });
  return max_lanes(best);
}

// Turns scores into exp((score - highest) * scale), zero outside what is visible; returns their sum.
INLINE f32 exponentials(f32* scores, Visible see, isize keys, f32 scale, f32 highest) {
  const f32 nothing = -__builtin_inff();
  // Where every score is -infinity or not a number there is no maximum to take off, and the latter must stay to be seen.
  vf sum = splat(0.0f), factor = splat(scale), most = splat(highest == nothing ? 0 : highest);
  each_score(scores, see, keys, nothing, [&](isize j, vf x) INLINE_LAMBDA {
    vf p = exp_below((x - most) * factor);
    sum += p;
    store(scores + j, p);
  });
  return sum_lanes(sum);
}

// A query's largest raw score so far and the sum of exponentials under it.
struct RunningSoftmax {
  f32 highest = -__builtin_inff(), sum = 0;
  // Takes in the sum over more keys, under a maximum that is no lower; returns the factor for what was summed up before.
  INLINE f32 take(RunningSoftmax& state, f32 highest, f32 sum, f32 scale) {
    f32 correction = state.highest == highest ? 1 : __builtin_expf((state.highest - highest) * scale);
    state.highest = highest;
    state.sum = state.sum * correction + sum;
    return correction;
  }
};

// Turns one row of raw scores into exponentials under the running maximum; returns the factor for what was summed up before.
INLINE f32 softmax_row(f32* scores, Visible see, isize keys, f32 scale, RunningSoftmax& state) {
  f32 highest = highest_score(scores, see, keys);
  if (!(highest > state.highest)) highest = state.highest;
  if (see.high <= see.low) {
    memset(scores, 0, (size_t)keys * sizeof(f32));
    return 1;
  }
  f32 sum = exponentials(scores, see, keys, scale, highest);
  return RunningSoftmax::take(state, highest, sum, scale);
}

// Neighbouring queries of one head, the first of them at `position` in its sequence.
struct QueryRows {
  const f32* q;
  isize ldq;
  f32* out;
  isize ldo;
  RunningSoftmax* states;
  const i32* kv_start;  // or null
  isize count, position;
};

INLINE void begin_rows(const QueryRows& rows, isize channels) {
  for (isize i = 0; i < rows.count; i++) {
    rows.states[i] = RunningSoftmax();
    memset(rows.out + i * rows.ldo, 0, (size_t)channels * sizeof(f32));
  }
}

// Adds what the queries see of one tile of keys to their rows of out.
static void attend_to_keys(const QueryRows& rows, const PanelsOfB& keys_across, const PanelsOfB& values, isize first_key,
                           isize count, isize channels, f32 scale) {
  f32* scores = scratch(SLOT_F, FORWARD_QUERIES * FORWARD_KEYS);
  isize first = first_key > rows.position ? first_key - rows.position : 0;  // earlier queries see nothing of this tile
  for (isize i = first / FORWARD_QUERIES * FORWARD_QUERIES; i < rows.count; i += FORWARD_QUERIES) {
    isize m = minimum(FORWARD_QUERIES, rows.count - i), seen = minimum(count, rows.position + i + m - first_key);
    f32* out = rows.out + i * rows.ldo;
    multiply_tile_rows(m, seen, channels, rows.q + i * rows.ldq, rows.ldq, keys_across, scores, FORWARD_KEYS, false);
    for (isize r = 0; r < m; r++) {
      Visible see = visible_keys(rows.kv_start, i + r, rows.position + i + r, first_key, seen);
      f32 factor = softmax_row(scores + r * FORWARD_KEYS, see, seen, scale, rows.states[i + r]);
      if (factor != 1) scale_row(out + r * rows.ldo, channels, factor);
    }
    multiply_tile_rows(m, channels, seen, scores, FORWARD_KEYS, values, out, rows.ldo, true);
  }
}

INLINE void finish_rows(const QueryRows& rows, isize channels) {
  for (isize i = 0; i < rows.count; i++)
    if (rows.states[i].sum != 0) scale_row(rows.out + i * rows.ldo, channels, 1 / rows.states[i].sum);
}

OLMOE_API void olmoe_attention_forward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv, f32* out,
                                       isize ldo, f32* lse, const i32* kv_start, isize batch, isize queries, isize keys,
                                       isize kv_stride, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads;
  parallel_for(batch * kv_heads, [&](isize task) {
    isize b = task / kv_heads, kv_head = task % kv_heads;
    RunningSoftmax* states = (RunningSoftmax*)scratch(SLOT_C, 2 * group * queries);
    auto rows_of_head = [&](isize h) -> QueryRows {
      isize row = b * queries, column = (kv_head * group + h) * channels;
      return {q + row * ldq + column, ldq,     out + row * ldo + column, ldo, states + h * queries,
              kv_start ? kv_start + row : nullptr, queries, keys - queries};
    };
    for (isize h = 0; h < group; h++) begin_rows(rows_of_head(h), channels);
    for (isize j = 0; j < keys; j += FORWARD_KEYS) {
      isize count = minimum(FORWARD_KEYS, keys - j);
      isize row = b * kv_stride + j;
      PanelsOfB keys_across = panels_of({k + row * ldk + kv_head * channels, ldk, true}, 0, channels, 0, count, SLOT_D);
      PanelsOfB values = panels_of({v + row * ldv + kv_head * channels, ldv, false}, 0, count, 0, channels, SLOT_E);
      for (isize h = 0; h < group; h++) attend_to_keys(rows_of_head(h), keys_across, values, j, count, channels, scale);
    }
    for (isize h = 0; h < group; h++) {
      finish_rows(rows_of_head(h), channels);
      for (isize i = 0; i < queries && lse; i++) {
        const RunningSoftmax& state = states[h * queries + i];
        lse[(b * heads + kv_head * group + h) * queries + i] = state.highest * scale + __builtin_logf(state.sum);
      }
    }
  });
}

// One tile of the backward pass: probabilities of m queries and `count` keys, and the gradient of their scores, from raw
// scores in `probs` and dout . value in `dscores`.
static void score_gradients(f32* probs, f32* dscores, const f32* lse, const f32* delta, const i32* kv_start, isize query0,
                            isize position0, isize first_key, isize m, isize count, f32 scale) {
  for (isize r = 0; r < m; r++) {
    Visible see = visible_keys(kv_start, query0 + r, position0 + r, first_key, count);
    f32 *p = probs + r * BACKWARD_KEYS, *d = dscores + r * BACKWARD_KEYS;
    if (see.high <= see.low) {
      memset(p, 0, (size_t)count * sizeof(f32));
      memset(d, 0, (size_t)count * sizeof(f32));
      continue;
    }
    vf factor = splat(scale), shift = splat(lse[r]), mean = splat(delta[r]);
    each_score(p, see, count, -__builtin_inff(), [&](isize j, vf x) INLINE_LAMBDA {
      vf probability = exp_below(x * factor - shift);
      store(p + j, probability);
      // What is not seen stays out of it, whatever its value is.
      store(d + j, choose(probability == splat(0), splat(0), probability * (load(d + j) - mean) * factor));
    });
  }
}

OLMOE_API void olmoe_attention_backward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv,
                                        const f32* out, isize ldo, const f32* lse, const i32* kv_start, const f32* dout,
                                        isize lddo, f32* dq, isize lddq, f32* dk, isize lddk, f32* dv, isize lddv, isize batch,
                                        isize length, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads;
  parallel_for(batch * kv_heads, [&](isize task) {
    isize b = task / kv_heads, kv_head = task % kv_heads, row0 = b * length;
    // delta = dout . out of each query: the part of the softmax's gradient that all keys share.
    f32* delta = scratch(SLOT_C, group * length);
    for (isize h = 0; h < group; h++)
      for (isize i = 0; i < length; i++) {
        isize column = (kv_head * group + h) * channels;
        vf sum = splat(0.0f);
        each_vector(channels, [&](isize c, isize n) {
          sum += load_n(dout + (row0 + i) * lddo + column + c, n) * load_n(out + (row0 + i) * ldo + column + c, n);
        });
        delta[h * length + i] = sum_lanes(sum);
        memset(dq + (row0 + i) * lddq + column, 0, (size_t)channels * sizeof(f32));
      }

    for (isize j = 0; j < length; j += BACKWARD_KEYS) {
      isize count = minimum(BACKWARD_KEYS, length - j);
      const f32 *key = k + (row0 + j) * ldk + kv_head * channels, *value = v + (row0 + j) * ldv + kv_head * channels;
      PanelsOfB keys_across = panels_of({key, ldk, true}, 0, channels, 0, count, SLOT_D);
      PanelsOfB values_across = panels_of({value, ldv, true}, 0, channels, 0, count, SLOT_E);
      PanelsOfB keys = panels_of({key, ldk, false}, 0, count, 0, channels, SLOT_G);
      f32 *probs = scratch(SLOT_F, 2 * BACKWARD_QUERIES * BACKWARD_KEYS), *dscores = probs + BACKWARD_QUERIES * BACKWARD_KEYS;
      f32 *dkey = dk + (row0 + j) * lddk + kv_head * channels, *dvalue = dv + (row0 + j) * lddv + kv_head * channels;
      for (isize r = 0; r < count; r++) {
        memset(dkey + r * lddk, 0, (size_t)channels * sizeof(f32));
        memset(dvalue + r * lddv, 0, (size_t)channels * sizeof(f32));
      }
      for (isize h = 0; h < group; h++)
        for (isize i = j / BACKWARD_QUERIES * BACKWARD_QUERIES; i < length; i += BACKWARD_QUERIES) {
          isize m = minimum(BACKWARD_QUERIES, length - i), seen = minimum(count, i + m - j);
          isize column = (kv_head * group + h) * channels, state = h * length + i;
          const f32 *query = q + (row0 + i) * ldq + column, *dquery = dout + (row0 + i) * lddo + column;
          multiply_tile_rows(m, seen, channels, query, ldq, keys_across, probs, BACKWARD_KEYS, false);
          multiply_tile_rows(m, seen, channels, dquery, lddo, values_across, dscores, BACKWARD_KEYS, false);
          score_gradients(probs, dscores, lse + (b * heads + kv_head * group + h) * length + i, delta + state, kv_start,
                          row0 + i, i, j, m, seen, scale);
          multiply_tile_rows(m, channels, seen, dscores, BACKWARD_KEYS, keys, dq + (row0 + i) * lddq + column, lddq, true);
          PanelsOfB douts = panels_of({dquery, lddo, false}, 0, m, 0, channels, SLOT_A);
          multiply_tile_columns(seen, channels, m, probs, douts, dvalue, lddv);
          PanelsOfB queries = panels_of({query, ldq, false}, 0, m, 0, channels, SLOT_A);
          multiply_tile_columns(seen, channels, m, dscores, queries, dkey, lddk);
        }
    }
  });
}
