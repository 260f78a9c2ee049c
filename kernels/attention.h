// Softmax attention in tiles (FlashAttention's scheme): scores exist for one tile of queries and keys at a time, with a
// running maximum and sum for each query, so that memory grows with the length and not with its square. A task is
// one key/value head of one sequence, with all the query heads that share it. Its rows are short and far apart, as no
// processor foresees: they are asked for while others are computed with.
#pragma once
#include "gemm.h"

// The forward pass wants long rows of scores, for one softmax each. It is computed in registers of f32 wherever it runs: a
// cached pass gives its bits.
constexpr isize KEY_UNIT = NR > 32 ? NR : 32;
constexpr isize FORWARD_QUERIES = 24, FORWARD_KEYS = 4 * KEY_UNIT;

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

// Sets what lies outside the vectors with something visible to zero, up to whole vectors of keys.
INLINE void clear_hidden(f32* scores, Visible see, isize keys) {
  isize begin = see.low / LANES * LANES, end = round_up(see.high, LANES);
  for (isize j = 0; j < begin; j += LANES) store(scores + j, splat(0));
  for (isize j = end; j < keys; j += LANES) store(scores + j, splat(0));
}

// The largest score that a query sees, -infinity where there is none; not-a-number is left out.
INLINE f32 highest_score(const f32* scores, Visible see) {
  const f32 nothing = -__builtin_inff();
  vf best[2] = {splat(nothing), splat(nothing)};  // two chains: a comparison waits for the one before it
  each_visible(scores, see, nothing, [&](isize j, vf x) INLINE_LAMBDA {
    vf& chain = best[j / LANES % 2];
    chain = maximum(x, chain);
  });
  return max_lanes(maximum(best[0], best[1]));
}

// Turns scores into exp((score - highest) * scale), zero outside what is visible; returns their sum. Not inlined, and neither
// is RunningSoftmax::take: one piece of code rounds alike wherever it is called from.
__attribute__((noinline)) static f32 exponentials(f32* scores, Visible see, isize keys, f32 scale, f32 highest) {
  const f32 nothing = -__builtin_inff();
  // Where every score is -infinity or not a number there is no maximum to take off, and the latter must stay to be seen.
  vf sum = splat(0.0f), factor = splat(scale), most = splat(highest == nothing ? 0 : highest);
  each_visible(scores, see, nothing, [&](isize j, vf x) INLINE_LAMBDA {
    vf p = exp_below((x - most) * factor);
    sum += p;
    store(scores + j, p);
  });
  clear_hidden(scores, see, keys);
  return sum_lanes(sum);
}

// A query's largest raw score so far and the sum of exponentials under it.
struct RunningSoftmax {
  f32 highest = -__builtin_inff(), sum = 0;
  // Takes in the sum over more keys, under a maximum that is no lower; returns the factor for what was summed up before.
  __attribute__((noinline)) static f32 take(RunningSoftmax& state, f32 highest, f32 sum, f32 scale) {
    const f32 nothing = -__builtin_inff();  // before the first keys there is nothing to correct
    f32 correction = state.highest == highest || state.highest == nothing ? 1 : __builtin_expf((state.highest - highest) * scale);
    state.highest = highest;
    state.sum = state.sum * correction + sum;
    return correction;
  }
};

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

INLINE QueryRows some_rows(const QueryRows& rows, isize begin, isize count) {
  return {rows.q + begin * rows.ldq, rows.ldq, rows.out + begin * rows.ldo, rows.ldo, rows.states + begin,
          rows.kv_start ? rows.kv_start + begin : nullptr, count, rows.position + begin};
}

INLINE void begin_rows(const QueryRows& rows, isize channels) {
  for (isize i = 0; i < rows.count; i++) {
    rows.states[i] = RunningSoftmax();
    memset(rows.out + i * rows.ldo, 0, (size_t)channels * sizeof(f32));
  }
}

INLINE void finish_rows(const QueryRows& rows, isize channels) {
  for (isize i = 0; i < rows.count; i++)
    if (rows.states[i].sum != 0) scale_row(rows.out + i * rows.ldo, channels, 1 / rows.states[i].sum);
}

// The same to other rows; whole lines go past the caches.
INLINE void finish_rows(const QueryRows& rows, isize channels, f32* out, isize ldo) {
  for (isize i = 0; i < rows.count; i++) {
    const f32* source = rows.out + i * rows.ldo;
    f32* row = out + i * ldo;
    vf factor = splat(rows.states[i].sum != 0 ? 1 / rows.states[i].sum : 1);
    bool lines = (uintptr_t)row % 64 == 0;
    each_vector(channels, [&](isize c, isize n) INLINE_LAMBDA {
      vf x = load_n(source + c, n) * factor;
      if (lines && c / 16 * 16 + 16 <= channels) stream(row + c, x);
      else store_n(row + c, x, n);
    });
  }
  settle();
}

// One tile of keys for up to FORWARD_QUERIES rows. Each MR rows take only the keys that the last of them sees. ask(lines) is
// called now and then, with as many lines of memory as the next piece of work leaves time for.
template <class Ask>
static void attend_block(const QueryRows& rows, const PanelsOfB& keys_across, const PanelsOfB& values, isize first_key,
                         isize count, isize channels, f32 scale, Ask ask) {
  f32* scores = scratch(SLOT_F, FORWARD_QUERIES * FORWARD_KEYS);
  auto seen = [&](isize row) { return minimum(count, rows.position + minimum(row + MR, rows.count) - first_key); };
  // A panel of keys for all rows: it stays in the first cache.
  for (isize j = 0, q = 0; j < seen(rows.count - 1); j += NR, q++)
    for (isize r = 0; r < rows.count; r += MR) {
      isize some = minimum(MR, rows.count - r), columns = minimum(NR, round_up(seen(r), LANES) - j);
      if (columns <= 0) continue;
      ask(channels / 8);
      run_tile(rows_of(rows.q + r * rows.ldq, rows.ldq, some), keys_across.data + q * keys_across.step, keys_across.ld, channels,
               scores + r * FORWARD_KEYS + j, FORWARD_KEYS, some, columns, false);
    }
  // Maxima of all rows before all exponentials: so those of several rows are on their way at a time.
  f32 highest[FORWARD_QUERIES];
  auto visible = [&](isize r) { return visible_keys(rows.kv_start, r, rows.position + r, first_key, seen(r / MR * MR)); };
  for (isize r = 0; r < rows.count; r++) {
    highest[r] = highest_score(scores + r * FORWARD_KEYS, visible(r));
    if (!(highest[r] > rows.states[r].highest)) highest[r] = rows.states[r].highest;
  }
  for (isize r = 0; r < rows.count; r++) {
    Visible see = visible(r);
    f32* row = scores + r * FORWARD_KEYS;
    ask(4);
    if (see.high <= see.low) {
      for (isize j = 0; j < seen(r / MR * MR); j += LANES) store(row + j, splat(0));
      continue;
    }
    f32 sum = exponentials(row, see, seen(r / MR * MR), scale, highest[r]);
    f32 factor = RunningSoftmax::take(rows.states[r], highest[r], sum, scale);
    if (factor != 1) scale_row(rows.out + r * rows.ldo, channels, factor);
  }
  for (isize r = 0; r < rows.count; r += MR) {
    isize some = minimum(MR, rows.count - r);
    for (isize c = 0, q = 0; c < channels && seen(r) > 0; c += NR, q++) {
      ask(seen(r) / 8);
      run_tile(rows_of(scores + r * FORWARD_KEYS, FORWARD_KEYS, some), values.data + q * values.step, values.ld, seen(r),
               rows.out + r * rows.ldo + c, rows.ldo, some, minimum(NR, channels - c), true);
    }
  }
}

// Adds what the queries see of one tile of keys to their rows of out: from the first tile on, up to the last that they see.
static void attend_to_keys(const QueryRows& rows, const PanelsOfB& keys_across, const PanelsOfB& values, isize first_key,
                           isize count, isize channels, f32 scale, RowsAhead& ahead) {
  isize first = first_key > rows.position ? first_key - rows.position : 0;  // earlier queries see nothing of this tile
  for (isize i = first / FORWARD_QUERIES * FORWARD_QUERIES; i < rows.count; i += FORWARD_QUERIES) {
    QueryRows block = some_rows(rows, i, minimum(FORWARD_QUERIES, rows.count - i));
    // Rows that see one tile of keys are summed up nearby.
    bool starts = first_key == 0, ends = first_key + FORWARD_KEYS >= block.position + block.count, near = starts && ends;
    if (near) block.out = scratch(SLOT_G, FORWARD_QUERIES * channels), block.ldo = channels;
    isize next = i + block.count, some = minimum(FORWARD_QUERIES, rows.count - next);
    RowsAhead soon;
    RowsAhead::add(soon, rows.q + next * rows.ldq, rows.ldq, some, channels, false);
    if (!near) RowsAhead::add(soon, rows.out + next * rows.ldo, rows.ldo, some, channels, true);
    if (starts) begin_rows(block, channels);
    attend_block(block, keys_across, values, first_key, count, channels, scale,
                 [&](isize lines) INLINE_LAMBDA { RowsAhead::take(ahead, RowsAhead::take(soon, lines)); });
    if (near) finish_rows(block, channels, rows.out + i * rows.ldo, rows.ldo);
    else if (ends) finish_rows(block, channels);
  }
}

OLMOE_API void olmoe_attention_forward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv, f32* out,
                                       isize ldo, f32* lse, const i32* kv_start, isize batch, isize queries, isize keys,
                                       isize kv_stride, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads;
  // The next tile of keys, or the first of the task that this thread is likely to do next.
  auto ask_for_keys = [&](RowsAhead& ahead, isize task, isize j) {
    if (j >= keys) task += thread_count, j = 0;
    if (task >= batch * kv_heads) return;
    isize count = minimum(FORWARD_KEYS, keys - j), row = task / kv_heads * kv_stride + j, column = task % kv_heads * channels;
    RowsAhead::add(ahead, k + row * ldk + column, ldk, count, channels, false);
    RowsAhead::add(ahead, v + row * ldv + column, ldv, count, channels, false);
  };
  parallel_for(batch * kv_heads, [&](isize task) {
    isize b = task / kv_heads, kv_head = task % kv_heads;
    RunningSoftmax* states = (RunningSoftmax*)scratch(SLOT_C, 2 * group * queries);
    auto rows_of_head = [&](isize h) -> QueryRows {
      isize row = b * queries, column = (kv_head * group + h) * channels;
      return {q + row * ldq + column, ldq,     out + row * ldo + column, ldo, states + h * queries,
              kv_start ? kv_start + row : nullptr, queries, keys - queries};
    };
    for (isize j = 0; j < keys; j += FORWARD_KEYS) {
      isize count = minimum(FORWARD_KEYS, keys - j);
      isize row = b * kv_stride + j;
      const f32 *key = k + row * ldk + kv_head * channels, *value = v + row * ldv + kv_head * channels;
      PanelsOfB keys_across = tile_products::columns_of({key, ldk, true}, channels, count, SLOT_D);
      PanelsOfB values = tile_products::columns_of({value, ldv, false}, count, channels, SLOT_E);
      RowsAhead ahead;
      ask_for_keys(ahead, task, j + count);
      for (isize h = 0; h < group; h++) attend_to_keys(rows_of_head(h), keys_across, values, j, count, channels, scale, ahead);
    }
    for (isize h = 0; h < group; h++) {
      for (isize i = 0; i < queries && lse; i++) {
        const RunningSoftmax& state = states[h * queries + i];
        lse[(b * heads + kv_head * group + h) * queries + i] = state.highest * scale + __builtin_logf(state.sum);
      }
    }
  });
}

// What the backward pass takes at a time, one head of one sequence: rows of q and dout, of the keys and values that it shares, and of all gradients.
struct Head {
  const f32 *q, *k, *v, *out, *lse, *dout;
  const i32* kv_start;  // or null
  f32 *dq, *dk, *dv;
  isize ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv, length, channels;
};
