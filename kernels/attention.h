// Softmax attention in tiles (FlashAttention's scheme): scores exist for one tile of queries and keys at a time, with a
// running maximum and sum for each query, so that memory grows with the length and not with its square. A task is
// one key/value head of one sequence, with all the query heads that share it.
#pragma once
#include "gemm.h"

// Attention is f32 whatever a library rounds. The forward pass wants long rows of scores, for one softmax each; the backward
// pass holds two tiles, and short ones.
#if defined(__AMX_BF16__) && !defined(OLMOE_BF16)
namespace attention_products = fragment_products;
constexpr isize FORWARD_QUERIES = 64, FORWARD_KEYS = 256;
constexpr isize BACKWARD_QUERIES = 64, BACKWARD_KEYS = 64;
#else
namespace attention_products = tile_products;
constexpr isize KEY_UNIT = NR > 32 ? NR : 32;
constexpr isize FORWARD_QUERIES = 24, FORWARD_KEYS = 4 * KEY_UNIT;
constexpr isize BACKWARD_QUERIES = 48, BACKWARD_KEYS = 2 * KEY_UNIT;
#endif
using attention_products::Columns;
using attention_products::columns_of;
using attention_products::multiply_near;

// Which of a tile's keys one query sees: low .. high.
struct Visible {
  isize low, high;
};
INLINE Visible visible_keys(const i32* kv_start, isize query, isize position, isize first_key, isize keys) {
  isize start = kv_start ? kv_start[query] : 0;
  isize low = start > first_key ? start - first_key : 0;
  return {low, minimum(position + 1 - first_key, keys)};
}

INLINE void scale_row(f32* x, isize count, f32 factor) {
  each_vector(count, [&](isize j, isize n) { store_n(x + j, load_n(x + j, n) * splat(factor), n); });
}

// f(j, x) for each vector of a row of scores that holds something visible; what is not visible in it being `hidden`.
template <class F>
INLINE void each_visible(const f32* scores, Visible see, f32 hidden, F f) {
  isize j = see.low / LANES * LANES, whole = round_up(see.low, LANES), end = see.high / LANES * LANES;
  auto border = [&](isize j) INLINE_LAMBDA {
    vi place = lane_numbers() + (i32)j;
    f(j, choose((place >= (i32)see.low) & (place < (i32)see.high), load(scores + j), splat(hidden)));
  };
  if (j < whole) border(j);
  for (j = whole; j < end; j += LANES) f(j, load(scores + j));
  if (j < see.high) border(j);
}

// Sets what lies outside the vectors with something visible to zero.
INLINE void clear_hidden(f32* scores, Visible see, isize keys) {
  isize begin = see.low / LANES * LANES, end = round_up(see.high, LANES);
  memset(scores, 0, (size_t)begin * sizeof(f32));
  if (end < keys) memset(scores + end, 0, (size_t)(keys - end) * sizeof(f32));
}

// Turns one row of raw scores into exp((score - maximum) * scale), zero outside what is visible. Updates the running
// maximum of the raw scores and the sum; returns the factor for what was summed up before.
INLINE f32 softmax_row(f32* scores, Visible see, isize keys, f32 scale, f32& maximum_so_far, f32& sum_so_far) {
  const f32 nothing = -__builtin_inff();
  if (see.high <= see.low) {
    memset(scores, 0, (size_t)keys * sizeof(f32));
    return 1;
  }
  vf best[2] = {splat(nothing), splat(nothing)};  // two chains: a comparison waits for the one before it
  each_visible(scores, see, nothing, [&](isize j, vf x) INLINE_LAMBDA {
    vf& chain = best[j / LANES % 2];
    chain = maximum(x, chain);
  });
  f32 highest = max_lanes(maximum(best[0], best[1]));
  if (!(highest > maximum_so_far)) highest = maximum_so_far;
  // Where every score is -infinity or not a number there is no maximum to take off, and the latter must stay to be seen.
  vf sum = splat(0.0f), factor = splat(scale), most = splat(highest == nothing ? 0 : highest);
  each_visible(scores, see, nothing, [&](isize j, vf x) INLINE_LAMBDA {
    vf p = exp_below((x - most) * factor);
    sum += p;
    store(scores + j, p);
  });
  clear_hidden(scores, see, keys);
  // Before the first tile there is nothing to correct.
  f32 correction = maximum_so_far == highest || maximum_so_far == nothing ? 1 : __builtin_expf((maximum_so_far - highest) * scale);
  maximum_so_far = highest;
  sum_so_far = sum_so_far * correction + sum_lanes(sum);
  return correction;
}

OLMOE_API void olmoe_attention_forward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv, f32* out,
                                       isize ldo, f32* lse, const i32* kv_start, isize batch, isize queries, isize keys,
                                       isize kv_stride, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads, before = keys - queries;
  parallel_for(batch * kv_heads, [&](isize task) {
    attention_products::Registers registers;
    isize b = task / kv_heads, kv_head = task % kv_heads;
    f32* highest = scratch(SLOT_C, 2 * group * queries);
    f32* sums = highest + group * queries;
    for (isize i = 0; i < group * queries; i++) {
      highest[i] = -__builtin_inff();
      sums[i] = 0;
    }
    auto out_row = [&](isize h, isize i) { return out + (b * queries + i) * ldo + (kv_head * group + h) * channels; };
    for (isize h = 0; h < group; h++)
      for (isize i = 0; i < queries; i++) memset(out_row(h, i), 0, (size_t)channels * sizeof(f32));

    for (isize j = 0; j < keys; j += FORWARD_KEYS) {
      isize count = minimum(FORWARD_KEYS, keys - j);
      isize row = b * kv_stride + j;
      Columns keys_across = columns_of({k + row * ldk + kv_head * channels, ldk, true}, channels, count, SLOT_D);
      Columns values = columns_of({v + row * ldv + kv_head * channels, ldv, false}, count, channels, SLOT_E);
      f32* scores = scratch(SLOT_F, FORWARD_QUERIES * FORWARD_KEYS);
      isize first = j > before ? j - before : 0;  // earlier queries see nothing of this tile
      for (isize h = 0; h < group; h++)
        for (isize i = first / FORWARD_QUERIES * FORWARD_QUERIES; i < queries; i += FORWARD_QUERIES) {
          isize m = minimum(FORWARD_QUERIES, queries - i), seen = minimum(count, before + i + m - j);
          const f32* query = q + (b * queries + i) * ldq + (kv_head * group + h) * channels;
          multiply_near(false, m, seen, channels, query, ldq, keys_across, scores, FORWARD_KEYS, false);
          for (isize r = 0; r < m; r++) {
            isize state = h * queries + i + r;
            Visible see = visible_keys(kv_start, b * queries + i + r, before + i + r, j, seen);
            f32 factor = softmax_row(scores + r * FORWARD_KEYS, see, seen, scale, highest[state], sums[state]);
            if (factor != 1) scale_row(out_row(h, i + r), channels, factor);
          }
          multiply_near(false, m, channels, seen, scores, FORWARD_KEYS, values, out_row(h, i), ldo, true);
        }
    }
    for (isize h = 0; h < group; h++)
      for (isize i = 0; i < queries; i++) {
        isize state = h * queries + i;
        if (sums[state] != 0) scale_row(out_row(h, i), channels, 1 / sums[state]);
        if (lse) lse[(b * heads + kv_head * group + h) * queries + i] = highest[state] * scale + __builtin_logf(sums[state]);
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
    each_visible(p, see, -__builtin_inff(), [&](isize j, vf x) INLINE_LAMBDA {
      vf probability = exp_below(x * factor - shift);
      store(p + j, probability);
      // What is not seen stays out of it, whatever its value is.
      store(d + j, choose(probability == splat(0), splat(0), probability * (load(d + j) - mean) * factor));
    });
    clear_hidden(p, see, count);
    clear_hidden(d, see, count);
  }
}

OLMOE_API void olmoe_attention_backward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv,
                                        const f32* out, isize ldo, const f32* lse, const i32* kv_start, const f32* dout,
                                        isize lddo, f32* dq, isize lddq, f32* dk, isize lddk, f32* dv, isize lddv, isize batch,
                                        isize length, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads;
  parallel_for(batch * kv_heads, [&](isize task) {
    attention_products::Registers registers;
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
      Columns keys_across = columns_of({key, ldk, true}, channels, count, SLOT_D);
      Columns values_across = columns_of({value, ldv, true}, channels, count, SLOT_E);
      Columns keys = columns_of({key, ldk, false}, count, channels, SLOT_G);
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
          multiply_near(false, m, seen, channels, query, ldq, keys_across, probs, BACKWARD_KEYS, false);
          multiply_near(false, m, seen, channels, dquery, lddo, values_across, dscores, BACKWARD_KEYS, false);
          score_gradients(probs, dscores, lse + (b * heads + kv_head * group + h) * length + i, delta + state, kv_start,
                          row0 + i, i, j, m, seen, scale);
          multiply_near(false, m, channels, seen, dscores, BACKWARD_KEYS, keys, dq + (row0 + i) * lddq + column, lddq, true);
          Columns douts = columns_of({dquery, lddo, false}, m, channels, SLOT_B);
          multiply_near(true, seen, channels, m, probs, BACKWARD_KEYS, douts, dvalue, lddv, true);
          Columns queries = columns_of({query, ldq, false}, m, channels, SLOT_B);
          multiply_near(true, seen, channels, m, dscores, BACKWARD_KEYS, queries, dkey, lddk, true);
        }
    }
  });
}
