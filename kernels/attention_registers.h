// The backward pass of attention in registers of f32: products by the tile of tile.h, with queries as the rows of a tile of
// scores. What causality hides is left out MR queries at a time. The loops around it are those of attention_backward.h.
#pragma once
#include "attention.h"

namespace attention_registers {

constexpr isize KEYS = 2 * KEY_UNIT, QUERIES = 96;  // of one tile of scores
constexpr isize PACKED = 72 * 1024;                 // elements of queries that are near at a time: they stay in the second cache
constexpr isize ASK = 8;                            // lines that are asked for before one register tile

struct Setup {};

INLINE isize width_of(isize channels) { return round_up(channels, LANES); }

// Rows that lie side by side: rows of A, and B with rows along k.
struct Rows {
  f32* data;
  isize width;
  INLINE f32* at(const Rows& rows, isize i) { return rows.data + i * rows.width; }
};
struct PackedQueries {
  isize first, count;
  Rows rows, dout;
  const f32* lse;
  f32* delta;           // of each query
  const i32* kv_start;  // or null
};
struct PackedKeys {
  isize first, count;
  PanelsOfB across, values_across;
  Rows rows;
};
struct PackedScores {
  f32 *probs, *gradients;  // [QUERIES, KEYS]
};

static PackedScores room_for_scores() {
  f32* room = scratch(SLOT_A, 2 * QUERIES * KEYS);
  return {room, room + QUERIES * KEYS};
}

// f(i, c, n) for every vector of `count` rows.
template <class F>
INLINE void each_value(isize count, isize channels, F f) {
  for (isize i = 0; i < count; i++) each_vector(channels, [&](isize c, isize n) INLINE_LAMBDA { f(i, c, n); });
}

static PackedQueries pack_queries(const Head& head, isize first, isize count) {
  isize width = width_of(head.channels), size = count * width;
  f32* room = scratch(SLOT_B, 2 * size + count + NR);  // a panel may run past the last row
  PackedQueries queries{first, count, {room, width}, {room + size, width}, head.lse + first, room + 2 * size,
                        head.kv_start ? head.kv_start + first : nullptr};
  for (isize i = 0; i < count; i++) {
    const f32 *q = head.q + (first + i) * head.ldq, *dout = head.dout + (first + i) * head.lddo, *out = head.out + (first + i) * head.ldo;
    // delta = dout . out: the part of the softmax's gradient that all keys share.
    vf sum = splat(0);
    each_vector(head.channels, [&](isize c, isize n) INLINE_LAMBDA {
      vf x = load_n(dout + c, n);
      sum += x * load_n(out + c, n);
      store(Rows::at(queries.dout, i) + c, x);
      store(Rows::at(queries.rows, i) + c, load_n(q + c, n));
    });
    queries.delta[i] = sum_lanes(sum);
  }
  return queries;
}

static PackedKeys pack_keys(const Head& head, isize first, isize count) {
  using tile_products::columns_of;
  isize channels = head.channels, width = width_of(channels);
  const f32 *keys = head.k + first * head.ldk, *values = head.v + first * head.ldv;
  Rows rows{scratch(SLOT_G, count * width + NR), width};
  each_value(count, channels, [&](isize i, isize c, isize n) INLINE_LAMBDA {
    store(Rows::at(rows, i) + c, load_n(keys + i * head.ldk + c, n));
  });
  return {first, count, columns_of({rows.data, width, true}, channels, count, SLOT_D),
          columns_of({values, head.ldv, true}, channels, count, SLOT_E), rows};
}

// Neighbouring queries beside one tile of keys: which of these they see, MR queries at a time.
struct Sight {
  isize position, count, first_key, keys;
  // Keys that some of the MR queries from row `r` on see, counted from the tile's first.
  INLINE isize seen(const Sight& sight, isize r) {
    return minimum(sight.keys, sight.position + minimum(r + MR, sight.count) - sight.first_key);
  }
  // The first of the rows, MR by MR, that see a key.
  INLINE isize first_to_see(const Sight& sight, isize key) {
    return maximum(sight.first_key + key - sight.position, 0) / MR * MR;
  }
};

// Probabilities of the queries and the gradients of their scores, from raw scores and dout . value.
static void score_gradients(const Sight& sight, const PackedScores& scores, const f32* lse, const f32* delta, const i32* kv_start,
                            f32 scale) {
  for (isize r = 0; r < sight.count; r++) {
    // Keys take MR queries at a time, of which these may see only the first.
    isize seen = minimum(Sight::seen(sight, r / MR * MR) + MR - 1, sight.keys);
    Visible see = visible_keys(kv_start, r, sight.position + r, sight.first_key, seen);
    if (see.high <= see.low) see = {0, 0};
    f32 *p = scores.probs + r * KEYS, *d = scores.gradients + r * KEYS;
    vf factor = splat(scale), shift = splat(lse[r]), mean = splat(delta[r]);
    each_visible(p, see, -__builtin_inff(), [&](isize j, vf x) INLINE_LAMBDA {
      vf probability = exp_below(x * factor - shift);
      store(p + j, probability);
      // What is not seen stays out of it, whatever its value is.
      store(d + j, choose(probability == splat(0), splat(0), probability * (load(d + j) - mean) * factor));
    });
    clear_hidden(p, see, seen);
    clear_hidden(d, see, seen);
  }
}

// dkeys and dvalues, [KEYS, width], gain what the queries make of them, and dqueries, [queries, width], what the keys do.
static void multiply_tile_of_scores(const PackedQueries& queries, const PackedKeys& keys, const PackedScores& scores, isize query,
                                    isize channels, f32 scale, f32* dkeys, f32* dvalues, f32* dqueries, RowsAhead& ahead) {
  isize width = width_of(channels), count = minimum(QUERIES, queries.count - query);
  Sight sight{queries.first + query, count, keys.first, keys.count};
  auto rows_at = [&](const f32* data, isize ld, isize r) { return rows_of(data + r * ld, ld, minimum(MR, count - r)); };
  auto scores_of = [&](const Rows& rows, const PanelsOfB& across, f32* out) {
    for (isize j = 0, q = 0; j < keys.count; j += NR, q++)
      for (isize r = 0; r < count; r += MR) {
        isize some = minimum(NR, round_up(Sight::seen(sight, r), LANES) - j);
        if (some <= 0) continue;
        RowsAhead::take(ahead, ASK);
        run_tile(rows_at(Rows::at(rows, query), width, r), across.data + q * across.step, NR, channels, out + r * KEYS + j, KEYS,
                 minimum(MR, count - r), some, false);
      }
  };
  scores_of(queries.rows, keys.across, scores.probs);
  scores_of(queries.dout, keys.values_across, scores.gradients);
  score_gradients(sight, scores, queries.lse + query, queries.delta + query,
                  queries.kv_start ? queries.kv_start + query : nullptr, scale);
  for (isize r = 0; r < count; r += MR)
    for (isize c = 0, seen = Sight::seen(sight, r); c < channels && seen > 0; c += NR) {
      RowsAhead::take(ahead, ASK);
      run_tile(rows_at(scores.gradients, KEYS, r), keys.rows.data + c, width, seen, dqueries + (query + r) * width + c, width,
               minimum(MR, count - r), minimum(NR, width - c), true);
    }
  isize seen = Sight::seen(sight, count - 1);
  auto gradients_of = [&](const f32* source, const Rows& rows, f32* out) {
    for (isize j = 0; j < seen; j += MR) {
      isize first = Sight::first_to_see(sight, j);
      for (isize c = 0; c < channels; c += NR) {
        RowsAhead::take(ahead, ASK);
        run_tile(ColumnsOfA{source + first * KEYS + j, KEYS}, Rows::at(rows, query + first) + c, width, count - first,
                 out + j * width + c, width, minimum(MR, seen - j), minimum(NR, width - c), true);
      }
    }
  };
  gradients_of(scores.probs, queries.dout, dvalues);
  gradients_of(scores.gradients, queries.rows, dkeys);
}

// Rows of a gradient become, or gain, those of a tile. Whole lines go past the caches, which would read them first.
static void put_rows(const f32* tile, isize width, f32* rows, isize ld, isize count, isize channels, bool add) {
  bool lines = !add && (uintptr_t)rows % 64 == 0 && ld % 16 == 0;
  each_value(count, channels, [&](isize i, isize c, isize n) INLINE_LAMBDA {
    f32* place = rows + i * ld + c;
    vf x = load(tile + i * width + c);
    if (lines && c / 16 * 16 + 16 <= channels) stream(place, x);
    else store_n(place, add ? load_n(place, n) + x : x, n);
  });
}

static void put_queries(const f32* rows, const Head& head, isize first, isize count) {
  put_rows(rows, width_of(head.channels), head.dq + first * head.lddq, head.lddq, count, head.channels, false);
}

}  // namespace attention_registers
