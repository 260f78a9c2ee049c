// Softmax attention in tiles (FlashAttention's scheme): scores exist for one tile of queries and keys at a time, with a
// running maximum and sum for each query, so that memory grows with the length and not with its square. A task is
// one key/value head of one sequence, with all the query heads that share it.
#pragma once
#include "gemm.h"

constexpr isize QUERY_TILE = 64, KEY_TILE = 2 * (NR > 32 ? NR : 32);

// What one query sees of a tile of keys: columns low .. high of it.
struct Visible {
  isize low, high;
};
INLINE Visible visible_keys(const i32* kv_start, isize query, isize position, isize first_key, isize keys) {
  isize start = kv_start ? kv_start[query] : 0;
  isize low = start > first_key ? start - first_key : 0;
  return {low, minimum(position + 1 - first_key, keys)};
}

// Packs a tile of keys or values, `count` rows of `channels`, as B of rows x keys (transposed) or of keys x channels.
static f32* pack_tile(Slot slot, const f32* source, isize ld, isize count, isize channels, bool transposed) {
  isize n = transposed ? count : channels, k = transposed ? channels : count;
  f32* packed = scratch(slot, round_up(n, NR) * k);
  SourceOfB b{source, ld, transposed};
  for (isize j = 0; j < n; j += NR) SourceOfB::pack(b, 0, k, j, minimum(NR, n - j), packed + j * k);
  return packed;
}

// C[m, n] (+)= A packed B, with A by rows of stride lda.
static void multiply_packed(isize m, isize n, isize k, const f32* a, isize lda, const f32* packed, f32* c, isize ldc,
                            bool add) {
  multiply_panels(
      m, n, k, [=](isize i, isize rows) { return rows_of(a + i * lda, lda, rows); }, {packed, k * NR, NR}, c, ldc, add);
}

INLINE void scale_row(f32* x, isize count, f32 factor) {
  each_vector(count, [&](isize j, isize n) { store_n(x + j, load_n(x + j, n) * splat(factor), n); });
}

// Turns one row of raw scores into exp(score * scale - maximum), zero outside what is visible. Updates the running
// maximum and sum; returns the factor for what was summed up before.
INLINE f32 softmax_row(f32* scores, Visible see, isize keys, f32 scale, f32& maximum_so_far, f32& sum_so_far) {
  for (isize j = 0; j < see.low && j < keys; j++) scores[j] = 0;
  for (isize j = see.high > 0 ? see.high : 0; j < keys; j++) scores[j] = 0;
  isize count = see.high - see.low;
  if (count <= 0) return 1;
  f32* row = scores + see.low;
  vf best = splat(-__builtin_inff());
  each_vector(count, [&](isize j, isize n) {
    vf x = load_n(row + j, n, -__builtin_inff()) * splat(scale);
    best = maximum(best, x);
    store_n(row + j, x, n);
  });
  f32 highest = max_lanes(best);
  if (highest < maximum_so_far) highest = maximum_so_far;
  vf sum = splat(0.0f);
  each_vector(count, [&](isize j, isize n) {
    vf p = exp_vector(load_n(row + j, n, -__builtin_inff()) - splat(highest));
    sum += p;
    store_n(row + j, p, n);
  });
  f32 factor = maximum_so_far == highest ? 1 : __builtin_expf(maximum_so_far - highest);
  maximum_so_far = highest;
  sum_so_far = sum_so_far * factor + sum_lanes(sum);
  return factor;
}

OLMOE_API void olmoe_attention_forward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv, f32* out,
                                       isize ldo, f32* lse, const i32* kv_start, isize batch, isize queries, isize keys,
                                       isize kv_stride, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads, before = keys - queries;
  parallel_for(batch * kv_heads, [&](isize task) {
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

    for (isize j = 0; j < keys; j += KEY_TILE) {
      isize count = minimum(KEY_TILE, keys - j);
      isize row = b * kv_stride + j;
      f32* key_panels = pack_tile(SLOT_D, k + row * ldk + kv_head * channels, ldk, count, channels, true);
      f32* value_panels = pack_tile(SLOT_E, v + row * ldv + kv_head * channels, ldv, count, channels, false);
      f32* scores = scratch(SLOT_F, QUERY_TILE * KEY_TILE);
      isize first = j > before ? j - before : 0;  // earlier queries see nothing of this tile
      for (isize h = 0; h < group; h++)
        for (isize i = first / QUERY_TILE * QUERY_TILE; i < queries; i += QUERY_TILE) {
          isize m = minimum(QUERY_TILE, queries - i);
          const f32* query = q + (b * queries + i) * ldq + (kv_head * group + h) * channels;
          multiply_packed(m, count, channels, query, ldq, key_panels, scores, KEY_TILE, false);
          for (isize r = 0; r < m; r++) {
            isize state = h * queries + i + r;
            Visible see = visible_keys(kv_start, b * queries + i + r, before + i + r, j, count);
            f32 factor = softmax_row(scores + r * KEY_TILE, see, count, scale, highest[state], sums[state]);
            if (factor != 1) scale_row(out_row(h, i + r), channels, factor);
          }
          multiply_packed(m, channels, count, scores, KEY_TILE, value_panels, out_row(h, i), ldo, true);
        }
    }
    for (isize h = 0; h < group; h++)
      for (isize i = 0; i < queries; i++) {
        isize state = h * queries + i;
        if (sums[state] != 0) scale_row(out_row(h, i), channels, 1 / sums[state]);
        if (lse) lse[(b * heads + kv_head * group + h) * queries + i] = highest[state] + __builtin_logf(sums[state]);
      }
  });
}

// One tile of the backward pass: scores and their gradient from q, k, dout and v.
struct ScoreTile {
  f32 *probs, *dscores;
};
static ScoreTile score_gradients(const f32* query, isize ldq, const f32* dout, isize lddo, const f32* key_panels,
                                 const f32* value_panels, const f32* lse, const f32* delta, const i32* kv_start, isize query0,
                                 isize position0, isize j, isize m, isize count, isize channels, f32 scale) {
  f32* probs = scratch(SLOT_F, 2 * QUERY_TILE * KEY_TILE);
  f32* dscores = probs + QUERY_TILE * KEY_TILE;
  multiply_packed(m, count, channels, query, ldq, key_panels, probs, KEY_TILE, false);
  multiply_packed(m, count, channels, dout, lddo, value_panels, dscores, KEY_TILE, false);
  for (isize r = 0; r < m; r++) {
    Visible see = visible_keys(kv_start, query0 + r, position0 + r, j, count);
    f32 *p = probs + r * KEY_TILE, *d = dscores + r * KEY_TILE;
    for (isize c = 0; c < count; c++)
      if (c < see.low || c >= see.high) p[c] = d[c] = 0;
    isize low = see.low, visible = see.high - see.low;
    if (visible <= 0) continue;
    each_vector(visible, [&](isize c, isize n) {
      vf probability = exp_vector(load_n(p + low + c, n) * splat(scale) - splat(lse[r]));
      store_n(p + low + c, probability, n);
      store_n(d + low + c, probability * (load_n(d + low + c, n) - splat(delta[r])) * splat(scale), n);
    });
  }
  return {probs, dscores};
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

    for (isize j = 0; j < length; j += KEY_TILE) {
      isize count = minimum(KEY_TILE, length - j);
      const f32 *key = k + (row0 + j) * ldk + kv_head * channels, *value = v + (row0 + j) * ldv + kv_head * channels;
      f32* key_panels = pack_tile(SLOT_D, key, ldk, count, channels, true);
      f32* value_panels = pack_tile(SLOT_E, value, ldv, count, channels, true);
      f32* key_rows = pack_tile(SLOT_G, key, ldk, count, channels, false);
      f32 *dkey = dk + (row0 + j) * lddk + kv_head * channels, *dvalue = dv + (row0 + j) * lddv + kv_head * channels;
      for (isize r = 0; r < count; r++) {
        memset(dkey + r * lddk, 0, (size_t)channels * sizeof(f32));
        memset(dvalue + r * lddv, 0, (size_t)channels * sizeof(f32));
      }
      for (isize h = 0; h < group; h++)
        for (isize i = j / QUERY_TILE * QUERY_TILE; i < length; i += QUERY_TILE) {
          isize m = minimum(QUERY_TILE, length - i), column = (kv_head * group + h) * channels;
          const f32 *query = q + (row0 + i) * ldq + column, *dquery = dout + (row0 + i) * lddo + column;
          ScoreTile tile = score_gradients(query, ldq, dquery, lddo, key_panels, value_panels,
                                           lse + (b * heads + kv_head * group + h) * length + i, delta + h * length + i,
                                           kv_start, row0 + i, i, j, m, count, channels, scale);
          multiply_packed(m, channels, count, tile.dscores, KEY_TILE, key_rows, dq + (row0 + i) * lddq + column, lddq, true);
          tile_products::multiply_columns(
              count, channels, m, [&](isize r) { return tile.probs + r * KEY_TILE; },
              [&](isize r) { return dquery + r * lddo; }, dvalue, lddv);
          tile_products::multiply_columns(
              count, channels, m, [&](isize r) { return tile.dscores + r * KEY_TILE; },
              [&](isize r) { return query + r * ldq; }, dkey, lddk);
        }
    }
  });
}
