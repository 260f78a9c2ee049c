// The backward pass of attention on tiles of bf16 parts. What makes it quick beside products one by one: every operand is
// packed once for many tiles, scores become gradients in registers between two products, and keys are the rows of a tile of
// scores, for then three products can take probabilities and gradients of scores line by line, without a transposition.
// What causality hides is left out in squares of SIDE. The loops around it are those of attention_backward.h.
#pragma once
#include "attention.h"

namespace attention_tiles {

constexpr isize KEYS = 64, QUERIES = 128;  // of one tile of scores
constexpr isize PACKED = 32 * 1024;        // elements of queries that are packed at a time: they stay in the second cache
constexpr int ASK = 2;  // lines that are asked for beside one product of parts
constexpr isize LINE = PARTS * FRAGMENT;   // one step of k

typedef Tiles Setup;

INLINE isize width_of(isize channels) { return round_up(channels, SIDE); }

// Memory for the fragments of several operands, taken one after the other.
struct Room {
  bf16* place;
  INLINE Fragments take(Room& room, isize count, isize k) {
    Fragments fragments{room.place, steps_of(k)};
    room.place += 2 * fragment_floats(count, k);
    return fragments;
  }
};

// Queries of one head as operands: `across` have them as columns, `rows` along k.
struct PackedQueries {
  isize first, count;
  bool starts;  // whether a query may not see the keys before some place
  Fragments across, dout_across, rows, dout_rows;
  f32 *lse, *delta;  // of each query
  i32* start;        // the first key that it sees; none is before the end for what fills up the last square
};
struct PackedKeys {
  isize first, count;
  Fragments rows, value_rows, transposed;  // transposed: rows are channels, keys along k
};

// What becomes of the scores of a tile: probabilities and the gradients of scores with keys as rows, and with queries as
// columns.
struct PackedScores {
  Fragments probs, gradients, across;
};

static PackedScores room_for_scores() {
  Room room{(bf16*)scratch(SLOT_E, 3 * fragment_floats(KEYS, QUERIES))};
  return {Room::take(room, KEYS, QUERIES), Room::take(room, KEYS, QUERIES), Room::take(room, QUERIES, KEYS)};
}

// Turns raw scores and dout . value of SIDE keys and queries into fragments, two lines of each at a time.
struct Gradients {
  f32 scores[SIDE * SIDE], dprobs[SIDE * SIDE];
  const f32 *lse, *delta;
  const i32* start;
  isize query, key;  // positions of the first ones
  bool border;       // whether something of it may be hidden
  bf16 *probs, *gradients, *across;
  isize below, beside;  // to the second half of rows and columns
  f32 scale;
  isize line;  // that is next

  INLINE void begin(Gradients& g, const PackedQueries& queries, isize query, const PackedKeys& keys, isize row, bool border,
                    const PackedScores& out, isize column, f32 scale) {
    g.lse = queries.lse + query, g.delta = queries.delta + query, g.start = queries.start + query;
    g.query = queries.first + query, g.key = keys.first + row;
    g.border = border;
    g.probs = Fragments::at(out.probs, row) + column / STEP * LINE;
    g.gradients = Fragments::at(out.gradients, row) + column / STEP * LINE;
    g.across = Fragments::at(out.across, column) + row / STEP * LINE;
    g.below = out.probs.steps * LINE, g.beside = out.across.steps * LINE;
    g.scale = scale;
    g.line = 0;
  }

  INLINE void take(Gradients& state) {
    const Gradients& g = state;
    isize r = state.line++, below = g.below, beside = g.beside, line = r * STEP;
    const f32 *scores = g.scores + r * SIDE, *dprobs = g.dprobs + r * SIDE, *lse = g.lse, *delta = g.delta;
    bf16 *probs = g.probs + line, *gradients = g.gradients + line, *across = g.across + line;
    const vf factor = splat(g.scale);
    vf p[2][2], d[2][2];
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++)
#pragma GCC unroll 2
      for (int side = 0; side < 2; side++)
        p[half][side] = exp_below(load(scores + half * EDGE * SIDE + side * EDGE) * factor - load(lse + side * EDGE));
    if (g.border) {
      for (int half = 0; half < 2; half++)
        for (int side = 0; side < 2; side++) {
          vi own = vi{} + (i32)(g.key + r + half * EDGE), position = lane_numbers() + (i32)(g.query + side * EDGE);
          vi seen = (own >= (vi)load((const f32*)g.start + side * EDGE)) & (own <= position);
          p[half][side] = choose(seen, p[half][side], splat(0));
        }
    }
#pragma GCC unroll 2
    for (int half = 0; half < 2; half++)
#pragma GCC unroll 2
      for (int side = 0; side < 2; side++) {
        vf dprob = load(dprobs + half * EDGE * SIDE + side * EDGE) - load(delta + side * EDGE);
        // What is not seen stays out of it, whatever its value is.
        d[half][side] = choose(p[half][side] == splat(0), splat(0), p[half][side] * dprob * factor);
      }
#pragma GCC unroll 3
    for (int part = 0; part < PARTS; part++) {
      __m512i x[2][2], y[2][2];
#pragma GCC unroll 2
      for (int half = 0; half < 2; half++)
#pragma GCC unroll 2
        for (int side = 0; side < 2; side++) {
          x[half][side] = take_part((__m512&)p[half][side], part);
          y[half][side] = take_part((__m512&)d[half][side], part);
        }
#pragma GCC unroll 2
      for (int i = 0; i < 2; i++) {
        _mm512_store_si512(probs + i * below + part * FRAGMENT, join_pairs(x[i][0], x[i][1]));
        _mm512_store_si512(gradients + i * below + part * FRAGMENT, join_pairs(y[i][0], y[i][1]));
        _mm512_store_si512(across + i * beside + part * FRAGMENT, join_pairs(y[0][i], y[1][i]));
      }
    }
  }
};

// A square of C (+)= SIDE rows of A by SIDE columns of B, over `steps` of k.
template <class Beside>
INLINE void multiply(const bf16* a, isize a_steps, const bf16* b, isize b_steps, isize steps, f32* c, isize ldc, bool add,
                     Beside beside) {
  multiply_square<true>(a, a + a_steps * LINE, b, b + b_steps * LINE, steps, c, ldc, add, beside);
}

// dkeys and dvalues, [KEYS, width], gain what the queries make of them, and dqueries, squares of [width, SIDE], what the keys do.
static void multiply_tile_of_scores(const PackedQueries& queries, const PackedKeys& keys, const PackedScores& scores, isize query,
                                    isize channels, f32 scale, f32* dkeys, f32* dvalues, f32* dqueries, RowsAhead& ahead) {
  isize width = width_of(channels), steps = width / STEP;
  isize end = minimum(query + QUERIES, queries.count);
  // The first query of the tile that sees keys from `row` on, in whole squares.
  auto begin = [&](isize row) { return maximum(query, keys.first + row - queries.first); };
  // While a square is multiplied, the one before it becomes fragments.
  alignas(64) Gradients squares[2];
  squares[1].line = EDGE;
  isize turn = 0;
  for (isize row = 0; row < keys.count; row += SIDE)
    for (isize i = begin(row); i < end; i += SIDE, turn ^= 1) {
      Gradients &own = squares[turn], &before = squares[turn ^ 1];
      auto beside = [&]() INLINE_LAMBDA {
        if (before.line < EDGE) Gradients::take(before);
        RowsAhead::take(ahead, ASK);
      };
      multiply(Fragments::at(keys.rows, row), steps, Fragments::at(queries.across, i), steps, steps, own.scores, SIDE, false, beside);
      multiply(Fragments::at(keys.value_rows, row), steps, Fragments::at(queries.dout_across, i), steps, steps, own.dprobs, SIDE,
               false, beside);
      while (before.line < EDGE) Gradients::take(before);
      bool border = queries.starts || keys.first + row == queries.first + i || i + SIDE > queries.count;
      Gradients::begin(own, queries, i, keys, row, border, scores, i - query, scale);
    }
  Gradients& last = squares[turn ^ 1];
  while (last.line < EDGE) Gradients::take(last);
  auto ask = [&]() INLINE_LAMBDA { RowsAhead::take(ahead, ASK); };
  for (isize row = 0; row < keys.count; row += SIDE) {
    isize i = begin(row), some = (end - i + STEP - 1) / STEP, lines = i / STEP * LINE, skip = (i - query) / STEP * LINE;
    if (some <= 0) break;
    for (isize c = 0; c < width; c += SIDE) {
      multiply(Fragments::at(scores.probs, row) + skip, scores.probs.steps, Fragments::at(queries.dout_rows, c) + lines,
               queries.dout_rows.steps, some, dvalues + row * width + c, width, true, ask);
      multiply(Fragments::at(scores.gradients, row) + skip, scores.gradients.steps, Fragments::at(queries.rows, c) + lines,
               queries.rows.steps, some, dkeys + row * width + c, width, true, ask);
    }
  }
  for (isize i = begin(0); i < end; i += SIDE) {
    isize seen = minimum(keys.count, queries.first + i + SIDE - keys.first);
    for (isize c = 0; c < width; c += SIDE)
      multiply(Fragments::at(keys.transposed, c), keys.transposed.steps, Fragments::at(scores.across, i - query), scores.across.steps,
               steps_of(seen), dqueries + i * width + c * SIDE, SIDE, true, ask);
  }
}

static PackedQueries pack_queries(const Head& head, isize first, isize count) {
  isize channels = head.channels, wide = width_of(channels), all = round_up(count, SIDE);
  Room room{(bf16*)scratch(SLOT_B, 2 * (fragment_floats(all, channels) + fragment_floats(channels, all)))};
  PackedQueries queries{first, count, head.kv_start != nullptr, Room::take(room, all, channels), Room::take(room, all, channels),
                        Room::take(room, wide, all), Room::take(room, wide, all), nullptr, nullptr, nullptr};
  auto q = [&](isize i) { return head.q + (first + i) * head.ldq; };
  auto dout = [&](isize i) { return head.dout + (first + i) * head.lddo; };
  pack_along(queries.across, q, count, all, channels, true);
  pack_across(queries.rows, q, channels, wide, count, false);
  pack_along(queries.dout_across, dout, count, all, channels, true);
  pack_across(queries.dout_rows, dout, channels, wide, count, false);
  queries.lse = scratch(SLOT_A, 3 * all), queries.delta = queries.lse + all, queries.start = (i32*)(queries.delta + all);
  for (isize i = 0; i < all; i++) {
    bool real = i < count;
    // delta = dout . out: the part of the softmax's gradient that all keys share.
    vf sum = splat(0);
    const f32* out = head.out + (first + i) * head.ldo;
    if (real) each_vector(channels, [&](isize c, isize n) { sum += load_n(dout(i) + c, n) * load_n(out + c, n); });
    queries.delta[i] = sum_lanes(sum);
    queries.lse[i] = real ? head.lse[first + i] : 0;
    queries.start[i] = !real ? INT32_MAX : head.kv_start ? head.kv_start[first + i] : 0;
  }
  return queries;
}

static PackedKeys pack_keys(const Head& head, isize first, isize count) {
  isize channels = head.channels, wide = width_of(channels), all = round_up(count, SIDE);
  Room room{(bf16*)scratch(SLOT_D, 2 * fragment_floats(all, channels) + fragment_floats(wide, all))};
  PackedKeys keys{first, count, Room::take(room, all, channels), Room::take(room, all, channels), Room::take(room, wide, all)};
  auto k = [&](isize i) { return head.k + (first + i) * head.ldk; };
  pack_along(keys.rows, k, count, all, channels, false);
  pack_across(keys.transposed, k, channels, wide, count, true);
  pack_along(keys.value_rows, [&](isize i) { return head.v + (first + i) * head.ldv; }, count, all, channels, false);
  return keys;
}

// Up to 16 channels of a row of a gradient. Whole lines go past the caches, which would read them first.
INLINE void put_line(f32* place, __m512 x, isize some, bool add) {
  if (add || some < EDGE || (uintptr_t)place % 64) {
    __mmask16 mask = first_lanes(some);
    _mm512_mask_storeu_ps(place, mask, add ? _mm512_add_ps(_mm512_maskz_loadu_ps(mask, place), x) : x);
  } else {
    stream(place, (vf)x);
  }
}

// Rows of a gradient become, or gain, those of a tile.
INLINE void put_rows(const f32* tile, isize width, f32* rows, isize ld, isize count, isize channels, bool add) {
  for (isize r = 0; r < count; r++)
    for (isize c = 0; c < channels; c += EDGE) put_line(rows + r * ld + c, _mm512_loadu_ps(tile + r * width + c), channels - c, add);
}

// The same from squares of [width, SIDE] with queries as columns.
static void put_queries(const f32* squares, const Head& head, isize first, isize count) {
  isize width = width_of(head.channels);
  for (isize i = 0; i < count; i += EDGE)
    for (isize c = 0; c < head.channels; c += EDGE) {
      vf x[EDGE];
#pragma GCC unroll 16
      for (isize j = 0; j < EDGE; j++) x[j] = load(squares + i / SIDE * SIDE * width + (c + j) * SIDE + i % SIDE);
      transpose_square(x);
      for (isize r = 0; r < minimum(EDGE, count - i); r++)
        put_line(head.dq + (first + i + r) * head.lddq + c, (__m512)x[r], head.channels - c, false);
    }
}

}  // namespace attention_tiles
