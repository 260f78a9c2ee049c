// Routing choices beside the plain top-k: experts that choose tokens, and experts that are full.
#pragma once
#include "blocks.h"

// Orders probabilities as integers: the bits of a float from 0 on rise with it. What is not a number ranks below all.
INLINE uint32_t rank_of(f32 p) {
  uint32_t bits;
  memcpy(&bits, &p, sizeof bits);
  return p > 0 ? bits + 1 : p == 0 ? 1 : 0;
}

// The largest rank that at least `wanted` of the ranks reach, found bit by bit; `wanted` is from 1 to count.
INLINE uint32_t threshold_rank(const uint32_t* ranks, isize count, isize wanted) {
  uint32_t threshold = 0;
  for (int bit = 30; bit >= 0; bit--) {
    uint32_t candidate = threshold | 1u << bit;
    isize reached = 0;
    for (isize i = 0; i < count; i++) reached += ranks[i] >= candidate;
    if (reached >= wanted) threshold = candidate;
  }
  return threshold;
}

OLMOE_API void olmoe_expert_choice(const f32* probs, i32* expert_ids, f32* expert_weights, isize groups, isize length,
                                   isize experts, isize capacity) {
  parallel_for(groups * experts, [=](isize task) {
    isize e = task % experts, at = task / experts * length * experts + e;
    uint32_t* ranks = (uint32_t*)scratch(SLOT_A, length);
    isize above = 0;
    for (isize t = 0; t < length; t++) ranks[t] = rank_of(probs[at + t * experts]);
    uint32_t threshold = capacity > 0 ? threshold_rank(ranks, length, capacity) : ~0u;
    for (isize t = 0; t < length; t++) above += ranks[t] > threshold;
    // Those at the threshold itself are taken from the first on, as far as there is room.
    isize ties = capacity - above;
    for (isize t = 0; t < length; t++) {
      bool taken = ranks[t] > threshold || (ranks[t] == threshold && ties-- > 0);
      expert_ids[at + t * experts] = taken ? (i32)e : -1;
      expert_weights[at + t * experts] = taken ? probs[at + t * experts] : 0;
    }
  });
}

OLMOE_API isize olmoe_drop_overflow(const i32* chosen_ids, i32* expert_ids, isize tokens, isize experts, isize top_k,
                                    isize capacity) {
  i32* taken = (i32*)scratch(SLOT_SHARED, experts);
  isize dropped = 0;
  memset(taken, 0, (size_t)experts * sizeof(i32));
  for (isize s = 0; s < tokens * top_k; s++) {
    i32 e = chosen_ids[s];
    bool full = e >= 0 && taken[e] >= capacity;
    if (e >= 0 && !full) taken[e]++;
    expert_ids[s] = full ? -1 : e;
    dropped += full;
  }
  return dropped;
}

OLMOE_API void olmoe_mask_slots(const i32* expert_ids, const f32* x, f32* y, isize slots) {
  parallel_blocks(slots, STREAM_ELEMENTS, [=](isize begin, isize end) {
    for (isize s = begin; s < end; s++) y[s] = expert_ids[s] >= 0 ? x[s] : 0;
  });
}
