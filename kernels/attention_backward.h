// The backward pass of attention: a block of queries of one head meets all its keys, tile by tile, in the order of positions.
// Rows are short and far apart, as no processor foresees: they are asked for while others are computed with.
#pragma once
#include "attention.h"

#if defined(__AMX_BF16__) && !defined(OLMOE_BF16)  // a library that rounds to bf16 does so in no score
#include "attention_tiles.h"
namespace attention_products = attention_tiles;
#else
#include "attention_registers.h"
namespace attention_products = attention_registers;
#endif

// Gradients of a head; those of keys and values are added to what earlier heads made of them, unless this is the first. `next`
// is what this thread is likely to do afterwards, or null.
static void backward_of_head(const Head& head, bool first_head, f32 scale, const Head* next) {
  using namespace attention_products;
  isize channels = head.channels, width = width_of(channels);
  isize block = maximum(PACKED / width / QUERIES, 1) * QUERIES;
  PackedScores scores = room_for_scores();
  f32 *dkeys = scratch(SLOT_F, 2 * KEYS * width), *dvalues = dkeys + KEYS * width;
  for (isize first = 0; first < head.length; first += block) {
    PackedQueries queries = pack_queries(head, first, minimum(block, head.length - first));
    f32* dqueries = scratch(SLOT_C, block * width);
    memset(dqueries, 0, (size_t)(block * width) * sizeof(f32));
    const Head* following = first + block < head.length ? &head : next;
    isize end = first + queries.count, later = following == &head ? first + block : 0;
    // Rows of the following block that are asked for before tile j, in proportion to the work: earlier tiles have more.
    auto asked = [&](isize j) {
      f32 left = (f32)maximum(end - j, 0) / (f32)end;
      return minimum((isize)((f32)queries.count * (1 - left * left)), queries.count);
    };
    for (isize j = 0; j < end; j += KEYS) {
      RowsAhead ahead;
      isize begin = asked(j), count = asked(j + KEYS) - begin;
      const Head* source = j + KEYS < end ? &head : following;
      isize row = j + KEYS < end ? j + KEYS : 0;
      if (source) {
        isize some = minimum(KEYS, head.length - row);
        RowsAhead::add(ahead, source->k + row * head.ldk, head.ldk, some, channels, false);
        RowsAhead::add(ahead, source->v + row * head.ldv, head.ldv, some, channels, false);
      }
      if (following) {
        isize some = minimum(count, head.length - later - begin);
        RowsAhead::add(ahead, following->q + (later + begin) * head.ldq, head.ldq, some, channels, false);
        RowsAhead::add(ahead, following->dout + (later + begin) * head.lddo, head.lddo, some, channels, false);
        RowsAhead::add(ahead, following->out + (later + begin) * head.ldo, head.ldo, some, channels, false);
      }
      PackedKeys keys = pack_keys(head, j, minimum(KEYS, head.length - j));
      memset(dkeys, 0, (size_t)(2 * KEYS * width) * sizeof(f32));
      for (isize i = maximum(j - first, 0) / QUERIES * QUERIES; i < queries.count; i += QUERIES)
        multiply_tile_of_scores(queries, keys, scores, i, channels, scale, dkeys, dvalues, dqueries, ahead);
      bool add = !first_head || j < first;
      put_rows(dkeys, width, head.dk + j * head.lddk, head.lddk, keys.count, channels, add);
      put_rows(dvalues, width, head.dv + j * head.lddv, head.lddv, keys.count, channels, add);
    }
    put_queries(dqueries, head, first, queries.count);
  }
  settle();
}

OLMOE_API void olmoe_attention_backward(const f32* q, isize ldq, const f32* k, isize ldk, const f32* v, isize ldv,
                                        const f32* out, isize ldo, const f32* lse, const i32* kv_start, const f32* dout,
                                        isize lddo, f32* dq, isize lddq, f32* dk, isize lddk, f32* dv, isize lddv, isize batch,
                                        isize length, isize heads, isize kv_heads, isize channels, f32 scale) {
  isize group = heads / kv_heads;
  auto head_of = [&](isize index) -> Head {
    isize b = index / heads, h = index % heads, row = b * length, column = h * channels, shared = h / group * channels;
    return {q + row * ldq + column, k + row * ldk + shared, v + row * ldv + shared, out + row * ldo + column,
            lse + index * length, dout + row * lddo + column, kv_start ? kv_start + row : nullptr,
            dq + row * lddq + column, dk + row * lddk + shared, dv + row * lddv + shared,
            ldq, ldk, ldv, ldo, lddo, lddq, lddk, lddv, length, channels};
  };
  parallel_for(batch * kv_heads, [&](isize task) {
    [[maybe_unused]] attention_products::Setup setup;
    for (isize h = 0; h < group; h++) {
      isize index = task * group + h, later = h + 1 < group ? index + 1 : (task + thread_count) * group;
      Head head = head_of(index), next = head_of(later < batch * heads ? later : index);
      backward_of_head(head, h == 0, scale, later < batch * heads ? &next : nullptr);
    }
  });
}
