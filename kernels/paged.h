// Attention over a paged cache, for many sequences in one call. Every query's sums have the order of olmoe_attention_forward:
// scores channel by channel, softmax under a running maximum over tiles of FORWARD_KEYS keys counted from the first of the
// sequence, values key by key within a tile. So bits depend neither on how a sequence was cut into passes, nor on its pages,
// nor on what else is in the call, nor on how the work below is split; over f32 pages they are those of the training pass.
//
// A few queries take keys and values straight from the pages, converting on the way: they run at the speed of memory. Many
// queries share panels that are converted once for a block of them.
#pragma once
#include "attention.h"
#include "pages.h"

namespace paged {

static_assert(FORWARD_KEYS % PAGE_TOKENS == 0 && NR % LANES == 0, "tiles of keys are whole pages");

// Most rows (queries times the heads that share a key/value head) that are taken straight from the pages.
constexpr isize DIRECT_ROWS = 16;
// Queries for which panels are converted once.
constexpr isize QUERY_BLOCK = 4 * FORWARD_QUERIES;

struct Call {
  const f32* q;
  isize ldq;
  const char* pages;
  const i32* table;
  f32* out;
  isize ldo, group, kv_heads, channels, part;  // part: bytes of one head's keys, or values, in a page
  f32 scale;
};

// What one task computes: queries of one sequence, for the heads that share one key/value head.
struct Piece {
  const i32* pages;  // of the sequence
  isize kv_head, row, queries, position;  // of the first query: its row in q, its position
  INLINE isize keys(const Piece& piece) { return piece.position + piece.queries; }
  INLINE isize tiles(const Piece& piece) { return (keys(piece) + FORWARD_KEYS - 1) / FORWARD_KEYS; }
};

INLINE isize rows_of_piece(const Call& call, const Piece& piece) { return call.group * piece.queries; }
INLINE isize column_of(const Call& call, const Piece& piece, isize h) {
  return (piece.kv_head * call.group + h) * call.channels;
}
INLINE const char* keys_at(const Call& call, const Piece& piece, isize page) {
  return call.pages + (piece.pages[page] * call.kv_heads + piece.kv_head) * 2 * call.part;
}
INLINE const char* values_at(const Call& call, const Piece& piece, isize page) {
  return keys_at(call, piece, page) + call.part;
}

// ---- a few queries ---------------------------------------------------------------------------------------------------

// What a piece knows of one tile of keys: for each row, head after head, its scores (then exponentials), the largest of
// them, their sum, and the sum over the values.
struct Tile {
  f32 *scores, *highest, *sums, *out;
  isize first, count, ldo;  // keys; floats of a row of out, whole vectors
};

INLINE isize out_floats(const Call& call) { return round_up(call.channels, LANES); }
INLINE isize tile_floats(const Call& call, const Piece& piece) {
  return round_up(rows_of_piece(call, piece) * (FORWARD_KEYS + out_floats(call) + 2), LANES);
}
INLINE Tile tile_at(const Call& call, const Piece& piece, isize index, f32* memory) {
  isize rows = rows_of_piece(call, piece), ldo = out_floats(call), first = index * FORWARD_KEYS;
  f32* out = memory + rows * FORWARD_KEYS;
  f32* highest = out + rows * ldo;
  return {memory, highest, highest + rows, out, first, minimum(FORWARD_KEYS, Piece::keys(piece) - first), ldo};
}

// The part of the page that is read next is asked for while this one is computed with, line by line: into the second cache,
// whose own prefetcher then keeps more lines on their way than the first has room for.
INLINE void ask(const char* next, isize bytes) {
  for (isize line = 0; line < bytes; line += 64) __builtin_prefetch(next + line, 0, 2);
}

// scores[r][token ...] of R rows and N vectors of a page's tokens.
template <class Format, int R, int N>
INLINE void score_page(const Call& call, const f32* const* rows, const char* keys, const char* next, isize token, f32* scores) {
  vf sums[R][N] = {};
  isize line = call.part / call.channels;
  for (isize begin = 0; begin < call.channels; begin += SCALE_CHANNELS) {
    vf scales[N];
    for (int v = 0; v < N; v++) scales[v] = Format::key_scales(keys, call.channels, begin, token + v * LANES);
    isize end = minimum(begin + SCALE_CHANNELS, call.channels);
    for (isize c = begin; c < end; c++) {
      if (token == 0) ask(next + c * line, line);
      vf x[N];
#pragma GCC unroll 8
      for (int v = 0; v < N; v++) x[v] = Format::key(keys, c, token + v * LANES, scales[v]);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        vf y = splat(rows[r][c]);
#pragma GCC unroll 8
        for (int v = 0; v < N; v++) sums[r][v] += y * x[v];
      }
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < N; v++) store(scores + r * FORWARD_KEYS + token + v * LANES, sums[r][v]);
}

template <class Format>
static void score_tile(const Call& call, const Piece& piece, const Tile& tile) {
  isize count = rows_of_piece(call, piece), first = tile.first / PAGE_TOKENS, pages = (tile.count + PAGE_TOKENS - 1) / PAGE_TOKENS;
  const f32* rows[DIRECT_ROWS];
  for (isize r = 0; r < count; r++)
    rows[r] = call.q + (piece.row + r % piece.queries) * call.ldq + column_of(call, piece, r / piece.queries);
  for (isize p = 0; p < pages; p++) {
    const char* keys = keys_at(call, piece, first + p);
    const char* next = p + 1 < pages ? keys_at(call, piece, first + p + 1) : values_at(call, piece, first);
    isize r = 0;
    for (; r + 4 <= count; r += 4)
      for (int v = 0; v < PAGE_VECTORS; v += 2)
        score_page<Format, 4, 2>(call, rows + r, keys, next, v * LANES, tile.scores + r * FORWARD_KEYS + p * PAGE_TOKENS);
    for (; r < count; r++)
      score_page<Format, 1, PAGE_VECTORS>(call, rows + r, keys, next, 0, tile.scores + r * FORWARD_KEYS + p * PAGE_TOKENS);
  }
  for (isize r = 0; r < count; r++) {
    Visible see = visible_keys(nullptr, 0, piece.position + r % piece.queries, tile.first, tile.count);
    tile.highest[r] = highest_score(tile.scores + r * FORWARD_KEYS, see);
  }
}

// out[r][channel ...] += over the page's tokens, R rows and N vectors of channels.
template <class Format, int R, int N>
INLINE void value_page(const Call& call, const f32* weights, const char* values, const char* next, isize tokens,
                       const f32* scales, isize channel, f32* out, isize ldo) {
  vf sums[R][N];
  isize line = call.part / PAGE_TOKENS, width = N * LANES * line / call.channels;
  next += channel / (N * LANES) * width;
  for (int r = 0; r < R; r++)
    for (int v = 0; v < N; v++) sums[r][v] = load(out + r * ldo + channel + v * LANES);
  for (isize j = 0; j < tokens; j++) {
    ask(next + j * line, width);
    vf x[N];
#pragma GCC unroll 8
    for (int v = 0; v < N; v++) x[v] = Format::value(values, call.channels, j, channel + v * LANES, scales);
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      vf y = splat(weights[r * FORWARD_KEYS + j]);
#pragma GCC unroll 8
      for (int v = 0; v < N; v++) sums[r][v] += y * x[v];
    }
  }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < N; v++) store(out + r * ldo + channel + v * LANES, sums[r][v]);
}

// All channels of R rows, N vectors at a time as long as there are so many.
template <class Format, int R, int N>
INLINE void value_rows(const Call& call, const f32* weights, const char* values, const char* next, isize tokens,
                       const f32* scales, f32* out, isize ldo) {
  isize channel = 0;
  for (; channel + N * LANES <= ldo; channel += N * LANES)
    value_page<Format, R, N>(call, weights, values, next, tokens, scales, channel, out, ldo);
  for (; channel < ldo; channel += LANES)
    value_page<Format, R, 1>(call, weights, values, next, tokens, scales, channel, out, ldo);
}

// Exponentials under the highest score of this tile or `before` it, and what they make of the values.
template <class Format>
static void value_tile(const Call& call, const Piece& piece, const Tile& tile, const f32* before) {
  isize count = rows_of_piece(call, piece), first = tile.first / PAGE_TOKENS, pages = (tile.count + PAGE_TOKENS - 1) / PAGE_TOKENS;
  for (isize r = 0; r < count; r++) {
    Visible see = visible_keys(nullptr, 0, piece.position + r % piece.queries, tile.first, tile.count);
    f32* scores = tile.scores + r * FORWARD_KEYS;
    if (!(tile.highest[r] > before[r])) tile.highest[r] = before[r];
    tile.sums[r] = see.high > 0 ? exponentials(scores, see, tile.count, call.scale, tile.highest[r]) : 0;
    if (see.high <= 0) memset(scores, 0, (size_t)tile.count * sizeof(f32));
  }
  memset(tile.out, 0, (size_t)(count * tile.ldo) * sizeof(f32));
  f32* scales = scratch(SLOT_G, PAGE_TOKENS * (Bytes::runs(call.channels) + 1));
  bool more = tile.first + tile.count < Piece::keys(piece);
  for (isize p = 0; p < pages; p++) {
    const char* values = values_at(call, piece, first + p);
    const char* next = p + 1 < pages ? values_at(call, piece, first + p + 1)
                       : more       ? keys_at(call, piece, first + pages)
                                    : values;
    isize tokens = minimum(PAGE_TOKENS, tile.count - p * PAGE_TOKENS), r = 0;
    Format::value_scales(values, call.channels, scales);
    const f32* weights = tile.scores + p * PAGE_TOKENS;
    for (; r + 4 <= count; r += 4)
      value_rows<Format, 4, 2>(call, weights + r * FORWARD_KEYS, values, next, tokens, scales, tile.out + r * tile.ldo, tile.ldo);
    for (; r < count; r++)
      value_rows<Format, 1, 8>(call, weights + r * FORWARD_KEYS, values, next, tokens, scales, tile.out + r * tile.ldo, tile.ldo);
  }
}

// The rows of out of a piece, as attention.h sees them.
INLINE QueryRows query_rows(const Call& call, const Piece& piece, isize h, RunningSoftmax* states) {
  isize column = column_of(call, piece, h);
  return {call.q + piece.row * call.ldq + column, call.ldq, call.out + piece.row * call.ldo + column, call.ldo,
          states + h * piece.queries, nullptr, piece.queries, piece.position};
}

// Adds a tile to the rows of out. Tiles are added in order.
static void merge_tile(const Call& call, const Piece& piece, const Tile& tile, RunningSoftmax* states) {
  for (isize h = 0; h < call.group; h++) {
    QueryRows rows = query_rows(call, piece, h, states);
    for (isize i = 0; i < piece.queries; i++) {
      isize r = h * piece.queries + i;
      if (piece.position + i < tile.first) continue;  // sees nothing of it
      f32 *out = rows.out + i * rows.ldo, *more = tile.out + r * tile.ldo;
      f32 factor = RunningSoftmax::take(rows.states[i], tile.highest[r], tile.sums[r], call.scale);
      if (factor != 1) scale_row(out, call.channels, factor);
      each_vector(call.channels, [&](isize c, isize n) { store_n(out + c, load_n(out + c, n) + load_n(more + c, n), n); });
    }
  }
}

template <class F>
INLINE void each_head(const Call& call, F f) {
  for (isize h = 0; h < call.group; h++) f(h);
}

// A piece of a few queries, as one task.
template <class Format>
static void attend_directly(const Call& call, const Piece& piece) {
  RunningSoftmax states[DIRECT_ROWS];
  f32 before[DIRECT_ROWS];
  f32* memory = scratch(SLOT_C, tile_floats(call, piece));
  each_head(call, [&](isize h) { begin_rows(query_rows(call, piece, h, states), call.channels); });
  for (isize t = 0; t < Piece::tiles(piece); t++) {
    Tile tile = tile_at(call, piece, t, memory);
    for (isize r = 0; r < rows_of_piece(call, piece); r++) before[r] = states[r].highest;
    score_tile<Format>(call, piece, tile);
    value_tile<Format>(call, piece, tile, before);
    merge_tile(call, piece, tile, states);
  }
  each_head(call, [&](isize h) { finish_rows(query_rows(call, piece, h, states), call.channels); });
}

// The same for pieces that are too few for the threads: each tile of keys is a task, first for its scores, then, when all
// are known, for its values.
template <class Format>
static void attend_by_tiles(const Call& call, const Piece* pieces, isize count) {
  isize most = 0, floats = 0;
  for (isize i = 0; i < count; i++) {
    most = maximum(most, Piece::tiles(pieces[i]));
    floats = maximum(floats, tile_floats(call, pieces[i]));
  }
  f32* memory = scratch(SLOT_SHARED, count * most * floats);
  auto tile_of = [&](isize i, isize t) { return tile_at(call, pieces[i], t, memory + (i * most + t) * floats); };
  auto each_tile = [&](auto task) {
    parallel_for(count * most, [&](isize index) {
      if (index % most < Piece::tiles(pieces[index / most])) task(index / most, index % most);
    });
  };
  each_tile([&](isize i, isize t) { score_tile<Format>(call, pieces[i], tile_of(i, t)); });
  // What is highest in each tile becomes what is highest before it: value_tile may then change its own.
  for (isize i = 0; i < count; i++)
    for (isize t = 1; t < Piece::tiles(pieces[i]); t++)
      for (isize r = 0; r < rows_of_piece(call, pieces[i]); r++) {
        f32 before = tile_of(i, t - 1).highest[r];
        f32& highest = tile_of(i, t).highest[r];
        if (!(highest > before)) highest = before;
      }
  each_tile([&](isize i, isize t) {
    Tile tile = tile_of(i, t);
    value_tile<Format>(call, pieces[i], tile, tile.highest);
  });
  parallel_for(count, [&](isize i) {
    RunningSoftmax states[DIRECT_ROWS];
    each_head(call, [&](isize h) { begin_rows(query_rows(call, pieces[i], h, states), call.channels); });
    for (isize t = 0; t < Piece::tiles(pieces[i]); t++) merge_tile(call, pieces[i], tile_of(i, t), states);
    each_head(call, [&](isize h) { finish_rows(query_rows(call, pieces[i], h, states), call.channels); });
  });
}

// ---- many queries ----------------------------------------------------------------------------------------------------

// Keys first .. first + count of a piece as panels, [channels, keys].
template <class Format>
static PanelsOfB key_panels(const Call& call, const Piece& piece, isize first, isize count) {
  isize channels = call.channels;
  f32* packed = scratch(SLOT_D, round_up(count, NR) * channels);
  for (isize j = 0; j < count; j += LANES) {
    const char* keys = keys_at(call, piece, (first + j) / PAGE_TOKENS);
    f32* panel = packed + j / NR * channels * NR + j % NR;
    for (isize begin = 0; begin < channels; begin += SCALE_CHANNELS) {
      vf scales = Format::key_scales(keys, channels, begin, j % PAGE_TOKENS);
      for (isize c = begin; c < minimum(begin + SCALE_CHANNELS, channels); c++)
        store(panel + c * NR, Format::key(keys, c, j % PAGE_TOKENS, scales));
    }
  }
  return {packed, channels * NR, NR};
}

// Values first .. first + count of a piece as panels, [keys, channels].
template <class Format>
static PanelsOfB value_panels(const Call& call, const Piece& piece, isize first, isize count) {
  isize channels = call.channels;
  f32* packed = scratch(SLOT_E, round_up(channels, NR) * count);
  f32* scales = scratch(SLOT_G, PAGE_TOKENS * (Bytes::runs(channels) + 1));
  for (isize j = 0; j < count; j += PAGE_TOKENS) {
    const char* values = values_at(call, piece, (first + j) / PAGE_TOKENS);
    Format::value_scales(values, channels, scales);
    for (isize token = 0; token < minimum(PAGE_TOKENS, count - j); token++)
      for (isize c = 0; c < channels; c += LANES)
        store(packed + c / NR * count * NR + (j + token) * NR + c % NR,
              Format::value(values, channels, token, c, scales));
  }
  return {packed, count * NR, NR};
}

template <class Format>
static void attend_by_panels(const Call& call, const Piece& piece) {
  RunningSoftmax* states = (RunningSoftmax*)scratch(SLOT_C, 2 * rows_of_piece(call, piece));
  RowsAhead ahead;  // pages follow no stride
  for (isize first = 0; first < Piece::keys(piece); first += FORWARD_KEYS) {
    isize count = minimum(FORWARD_KEYS, Piece::keys(piece) - first);
    PanelsOfB keys = key_panels<Format>(call, piece, first, count), values = value_panels<Format>(call, piece, first, count);
    each_head(call, [&](isize h) {
      attend_to_keys(query_rows(call, piece, h, states), keys, values, first, count, call.channels, call.scale, ahead);
    });
  }
}

// ---- the call --------------------------------------------------------------------------------------------------------

// Pieces of a call: those of many queries, then those of a few. Returns how many there are of each; counts only, without
// `pieces`.
struct Counts {
  isize many, few;
};
static Counts plan(const Call& call, const i32* sequences, isize count, Piece* pieces) {
  Counts counts = {0, 0};
  for (int few = 0; few < 2; few++)
    for (isize s = 0; s < count; s++) {
      const i32* sequence = sequences + 4 * s;
      isize queries = sequence[1], keys = sequence[2];
      if (queries == 0 || (call.group * queries <= DIRECT_ROWS) != (few == 1)) continue;
      isize block = few ? queries : QUERY_BLOCK;
      // The last queries see most keys: they come first, so that no thread begins the longest task at the end.
      for (isize i = (queries - 1) / block * block; i >= 0; i -= block)
        for (isize head = 0; head < call.kv_heads; head++) {
          isize& index = few ? counts.few : counts.many;
          if (pieces)
            pieces[(few ? counts.many : 0) + index] = {call.table + sequence[3], head, sequence[0] + i,
                                                       minimum(block, queries - i), keys - queries + i};
          index++;
        }
    }
  return counts;
}

template <class Format>
static void attend(const Call& call, const i32* sequences, isize count) {
  Counts counts = plan(call, sequences, count, nullptr);
  isize all = counts.many + counts.few;
  Piece* pieces = (Piece*)scratch(SLOT_A, all * (isize)(sizeof(Piece) / sizeof(f32)));
  plan(call, sequences, count, pieces);
  // A thread that is alone, or one of few with many pieces, has nothing to win from smaller tasks.
  bool split = thread_count > 1 && counts.few > 0 && all < 2 * thread_count;
  parallel_for(split ? counts.many : all, [&](isize i) {
    if (i < counts.many) attend_by_panels<Format>(call, pieces[i]);
    else attend_directly<Format>(call, pieces[i]);
  });
  if (split) attend_by_tiles<Format>(call, pieces + counts.many, counts.few);
}

}  // namespace paged

OLMOE_API void olmoe_paged_attention(const f32* q, isize ldq, const void* pages, const i32* page_table,
                                     const i32* sequences, f32* out, isize ldo, isize count, isize, isize, isize heads,
                                     isize kv_heads, isize channels, isize type, f32 scale) {
  paged::with_type(type, [&](auto format) {
    typedef decltype(format) Format;
    paged::attend<Format>({q, ldq, (const char*)pages, page_table, out, ldo, heads / kv_heads, kv_heads, channels,
                           Format::part_bytes(channels), scale},
                          sequences, count);
  });
}
