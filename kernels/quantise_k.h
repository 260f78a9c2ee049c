// Quantising to blocks of 256: a search for the scale (and minimum) of each sub-block, then levels for the scales as they
// are stored. A lane is a sub-block; see quantise.h.
#pragma once
#include "storage.h"

// The value as f32 and no more: what is added to it next is not fused with its product, whatever the compiler is told
// about contraction. (wasm has no fused operations.)
#if defined(__x86_64__) && defined(__AVX512F__)
#define OPAQUE(x) asm("" : "+v"(x))
#elif defined(__x86_64__)
#define OPAQUE(x) asm("" : "+x"(x))
#elif defined(__aarch64__)
#define OPAQUE(x) asm("" : "+w"(x))
#else
#define OPAQUE(x) (void)(x)
#endif
INLINE vf rounded(vf product) {
  OPAQUE(product);
  return product;
}
INLINE f32 rounded(f32 product) {
  OPAQUE(product);
  return product;
}

INLINE vf absolute(vf x) { return (vf)((vi)x & 0x7fffffff); }
INLINE vf to_floats(vi x) { return __builtin_convertvector(x, vf); }
// Towards zero.
INLINE vi to_whole(vf x) { return __builtin_convertvector(x, vi); }
// To the nearest, ties to even, by the bits of an addition: exact for magnitudes below 2^22, and the same bits as the
// reference beyond.
INLINE vi nearest(vf x) { return ((vi)(x + splat(12582912.0f)) & 0x7fffff) - 0x400000; }
INLINE vi clamp(vi x, i32 low, i32 high) {
  x = choose_bits(x < splat_bits(low), splat_bits(low), x);
  return choose_bits(x > splat_bits(high), splat_bits(high), x);
}
INLINE i32 nearest(f32 x) { return nearest(splat(x))[0]; }
INLINE i32 at_most(i32 x, i32 limit) { return x < limit ? x : limit; }

// Lane j of out[i] is value i of run j, of `runs` runs of N values that follow each other; lanes without a run are 0.
template <int N>
INLINE void gather_lanes(const f32* x, isize runs, vf* out) {
  for (int i = 0; i < N; i++) {
    f32 lanes[LANES];
    for (int j = 0; j < LANES; j++) lanes[j] = j < runs ? x[j * N + i] : 0;
    out[i] = load(lanes);
  }
}
// The way back for level i of each run.
template <int N>
INLINE void scatter_levels(vi level, int i, u8* levels) {
  for (int j = 0; j < LANES; j++) levels[j * N + i] = (u8)level[j];
}

// A sub-block's scale and the amount its values are lowered by.
struct Fit {
  vf scale, minimum;
};

// ---- scale and minimum: Q2_K, Q4_K, Q5_K ---------------------------------------------------------------------------

// The search goes through levels / (range) with the number of levels changed from `first` on in steps of 0.1.
struct RangeSearch {
  i32 levels;
  f32 first;
  int steps;
  bool absolute_error;  // else squared
};

template <int N>
struct RangeSums {
  vf level, level2, level_x;
  vf levels[N];
};

template <int N>
INLINE RangeSums<N> range_sums(const vf* x, const vf* weights, vf base, vf inverse, i32 most) {
  RangeSums<N> sums;
  sums.level = sums.level2 = sums.level_x = splat(0);
  for (int i = 0; i < N; i++) {
    vf l = to_floats(clamp(nearest(rounded(inverse * (x[i] - base))), 0, most));
    vf weighted = rounded(weights[i] * l);
    sums.levels[i] = l;
    sums.level += weighted;
    sums.level2 += rounded(weighted * l);
    sums.level_x += rounded(weighted * x[i]);
  }
  return sums;
}

// The weighted error of scale * level + offset.
template <int N>
INLINE vf range_error(const vf* x, const vf* weights, const vf* levels, vf scale, vf offset, bool absolute_error) {
  vf error = splat(0);
  for (int i = 0; i < N; i++) {
    vf difference = rounded(scale * levels[i]) + offset - x[i];
    difference = absolute_error ? absolute(difference) : rounded(difference * difference);
    error += rounded(weights[i] * difference);
  }
  return error;
}

// Levels of the values where the best scale was found, and that scale and minimum: of several scales, each with the
// weighted least-squares line through its own levels, the one of least error.
template <int N>
static Fit fit_range(const vf* x, const vf* weights, vi* levels, const RangeSearch& search) {
  vf least = x[0], most = x[0], sum_weights = weights[0], sum_x = rounded(weights[0] * x[0]);
  for (int i = 1; i < N; i++) {
    least = choose(x[i] < least, x[i], least);
    most = choose(x[i] > most, x[i], most);
    sum_weights += weights[i];
    sum_x += rounded(weights[i] * x[i]);
  }
  least = choose(least > splat(0), splat(0), least);
  const vi flat = most == least;
  const vf levels_most = splat((f32)search.levels);

  vf inverse = levels_most / (most - least), base = least, offset = least, scale = splat(1) / inverse;
  vf first_levels[N];
  for (int i = 0; i < N; i++)
    first_levels[i] = to_floats(clamp(nearest(rounded(inverse * (x[i] - base))), 0, search.levels));
  vf best = range_error<N>(x, weights, first_levels, scale, offset, search.absolute_error);
  vf best_inverse = inverse, best_base = base;
  for (int step = 0; step <= search.steps; step++) {
    base = offset;  // the best so far
    inverse = splat(search.first + rounded(0.1f * (f32)step) + (f32)search.levels) / (most - base);
    RangeSums<N> sums = range_sums<N>(x, weights, base, inverse, search.levels);
    vf determinant = rounded(sum_weights * sums.level2) - rounded(sums.level * sums.level);
    vf this_scale = (rounded(sum_weights * sums.level_x) - rounded(sum_x * sums.level)) / determinant;
    vf this_offset = (rounded(sums.level2 * sum_x) - rounded(sums.level * sums.level_x)) / determinant;
    vi above = this_offset > splat(0);
    this_offset = choose(above, splat(0), this_offset);
    this_scale = choose(above, sums.level_x / sums.level2, this_scale);
    vf error = range_error<N>(x, weights, sums.levels, this_scale, this_offset, search.absolute_error);
    vi better = (determinant > splat(0)) & (error < best);
    best = choose(better, error, best);
    best_inverse = choose(better, inverse, best_inverse);
    best_base = choose(better, base, best_base);
    scale = choose(better, this_scale, scale);
    offset = choose(better, this_offset, offset);
  }
  for (int i = 0; i < N; i++) {
    vi level = clamp(nearest(rounded(best_inverse * (x[i] - best_base))), 0, search.levels);
    levels[i] = choose_bits(flat, splat_bits(0), level);
  }
  return {choose(flat, splat(0), scale), choose(flat, -least, -offset)};
}

// Weights of a value: its magnitude, for Q4_K and Q5_K more than that by the root of the mean square.
INLINE Fit fit(const BlockQ2_K*, const vf* x, vi* levels) {
  vf weights[16];
  for (int i = 0; i < 16; i++) weights[i] = absolute(x[i]);
  return fit_range<16>(x, weights, levels, {3, -0.5f, 15, true});
}
INLINE Fit fit_32(const vf* x, vi* levels, const RangeSearch& search) {
  vf squares = splat(0), weights[32];
  for (int i = 0; i < 32; i++) squares += rounded(x[i] * x[i]);
  vf root = sqrt_vector(squares / splat(32));
  for (int i = 0; i < 32; i++) weights[i] = root + absolute(x[i]);
  return fit_range<32>(x, weights, levels, search);
}
INLINE Fit fit(const BlockQ4_K*, const vf* x, vi* levels) { return fit_32(x, levels, {15, -1.0f, 20, false}); }
INLINE Fit fit(const BlockQ5_K*, const vf* x, vi* levels) { return fit_32(x, levels, {31, -0.5f, 15, false}); }

// ---- scale alone: Q3_K, Q6_K ---------------------------------------------------------------------------------------

// Sub-blocks whose largest magnitude is below this are zero.
constexpr f32 LEAST_MAGNITUDE = 1e-15f;

// The value of largest magnitude, the first of equal ones.
INLINE vf extreme_of(const vf* x, vi* empty) {
  vf most = splat(0), extreme = splat(0);
  for (int i = 0; i < 16; i++) {
    vi larger = absolute(x[i]) > most;
    most = choose(larger, absolute(x[i]), most);
    extreme = choose(larger, x[i], extreme);
  }
  *empty = most < splat(LEAST_MAGNITUDE);
  return extreme;
}

// Weights are the squares of the values. The levels begin with the extreme value at -4, then change one by one, five
// times around, wherever that raises the projection of x on them.
INLINE Fit fit(const BlockQ3_K*, const vf* x, vi* levels) {
  vi empty;
  const vf inverse = splat(-4) / extreme_of(x, &empty);
  vf sum_x = splat(0), sum_2 = splat(0), weights[16];
  for (int i = 0; i < 16; i++) {
    levels[i] = clamp(nearest(rounded(inverse * x[i])), -4, 3);
    weights[i] = rounded(x[i] * x[i]);
    vf l = to_floats(levels[i]);
    sum_x += rounded(rounded(weights[i] * x[i]) * l);
    sum_2 += rounded(rounded(weights[i] * l) * l);
  }
  for (int round = 0; round < 5; round++)
    for (int i = 0; i < 16; i++) {
      vf w = weights[i], l = to_floats(levels[i]), weighted_x = rounded(w * x[i]);
      vf rest_x = sum_x - rounded(weighted_x * l), rest_2 = sum_2 - rounded(rounded(w * l) * l);
      vi level = clamp(nearest(rounded(x[i] * rest_2) / rest_x), -4, 3);
      vi changed = (rest_x > splat(0)) & (level != levels[i]);
      l = to_floats(level);
      rest_x += rounded(weighted_x * l);
      rest_2 += rounded(rounded(w * l) * l);
      vi better = changed & (rest_2 > splat(0)) & (rest_x * rest_x * sum_2 > sum_x * sum_x * rest_2);
      levels[i] = choose_bits(better, level, levels[i]);
      sum_x = choose(better, rest_x, sum_x);
      sum_2 = choose(better, rest_2, sum_2);
    }
  for (int i = 0; i < 16; i++) levels[i] = choose_bits(empty, splat_bits(0), levels[i] + 4);
  vf scale = choose(sum_2 > splat(0), sum_x / sum_2, splat(0));
  return {choose(empty, splat(0), scale), splat(0)};
}

// Weights are the squares of the values. Of 19 scales around the one that puts the extreme value at -32, each with the
// least-squares factor of its levels, the one with the largest projection of x on them.
INLINE Fit fit(const BlockQ6_K*, const vf* x, vi* levels) {
  vi empty;
  const vf extreme = extreme_of(x, &empty);
  vf scale = splat(0), best = splat(0), best_inverse = splat(0);
  for (int trial = 0; trial < 19; trial++) {
    // The middle one first, then -9 to 9.
    int step = trial == 0 ? 0 : trial <= 9 ? trial - 10 : trial - 9;
    vf inverse = splat(-(32 + rounded(0.1f * (f32)step))) / extreme;
    vf sum_x = splat(0), sum_2 = splat(0);
    for (int i = 0; i < 16; i++) {
      vf l = to_floats(clamp(nearest(rounded(inverse * x[i])), -32, 31)), w = rounded(x[i] * x[i]);
      sum_x += rounded(rounded(w * x[i]) * l);
      sum_2 += rounded(rounded(w * l) * l);
    }
    vi better = (sum_2 > splat(0)) & (sum_x * sum_x > best * sum_2);
    if (trial == 0) better = splat_bits(-1);
    vf factor = choose(sum_2 != splat(0), sum_x / sum_2, splat(0));
    scale = choose(better, factor, scale);
    best = choose(better, factor * sum_x, best);
    best_inverse = choose(better, inverse, best_inverse);
  }
  for (int i = 0; i < 16; i++) {
    vi level = clamp(nearest(rounded(best_inverse * x[i])), -32, 31) + 32;
    levels[i] = choose_bits(empty, splat_bits(0), level);
  }
  return {choose(empty, splat(0), scale), splat(0)};
}

// ---- scales as stored ----------------------------------------------------------------------------------------------

// The largest of x, or 0.
INLINE f32 largest_of(const f32* x, int count) {
  f32 most = 0;
  for (int i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
  return most;
}
// The value of largest magnitude, the first of equal ones, or 0.
INLINE f32 extreme_of(const f32* x, int count) {
  f32 most = 0, extreme = 0;
  for (int i = 0; i < count; i++) {
    f32 size = __builtin_fabsf(x[i]);
    if (size > most) most = size, extreme = x[i];
  }
  return extreme;
}

// pack_scales writes the scales of a block and replaces scales and minima by what a decoder will read.

INLINE void pack_scales(BlockQ2_K& block, f32* scales, f32* minima) {
  f32 most = largest_of(scales, 16), lowest = largest_of(minima, 16);
  f32 inverse = 15 / most, inverse_minimum = 15 / lowest;
  for (int j = 0; j < 16; j++) {
    int low = most > 0 ? nearest(rounded(inverse * scales[j])) : 0;
    int high = lowest > 0 ? nearest(rounded(inverse_minimum * minima[j])) : 0;
    block.scales[j] = (u8)(low | high << 4);
  }
  block.scale = f32_to_f16(most > 0 ? most / 15 : 0);
  block.minimum = f32_to_f16(lowest > 0 ? lowest / 15 : 0);
  f32 unit = f16_to_f32(block.scale), minimum_unit = f16_to_f32(block.minimum);
  for (int j = 0; j < 16; j++) {
    scales[j] = unit * (f32)(block.scales[j] & 15);
    minima[j] = minimum_unit * (f32)(block.scales[j] >> 4);
  }
}

INLINE void pack_scales(BlockQ3_K& block, f32* scales, f32*) {
  f32 extreme = extreme_of(scales, 16), inverse = -32 / extreme;
  memset(block.scales, 0, sizeof block.scales);
  for (int j = 0; j < 16 && extreme != 0; j++) {
    int scale = (i8)nearest(rounded(inverse * scales[j]));
    scale = (scale < -32 ? -32 : at_most(scale, 31)) + 32;
    block.scales[j % 8] |= (u8)((scale & 15) << (j / 8 * 4));
    block.scales[8 + j % 4] |= (u8)((scale >> 4) << (j / 4 * 2));
  }
  block.scale = f32_to_f16(extreme != 0 ? 1 / inverse : 0);
  SignedScales stored = signed_scales_of(block.scales);
  f32 unit = f16_to_f32(block.scale);
  for (int j = 0; j < 16; j++) scales[j] = unit * (f32)stored.scale[j];
}

// Of Q4_K and Q5_K.
template <class Block>
INLINE void pack_scales(Block& block, f32* scales, f32* minima) {
  f32 most = largest_of(scales, 8), lowest = largest_of(minima, 8);
  f32 inverse = most > 0 ? 63 / most : 0, inverse_minimum = lowest > 0 ? 63 / lowest : 0;
  memset(block.scales, 0, sizeof block.scales);
  for (int j = 0; j < 8; j++) {
    int scale = at_most((u8)nearest(rounded(inverse * scales[j])), 63);
    int minimum = at_most((u8)nearest(rounded(inverse_minimum * minima[j])), 63);
    if (j < 4) {
      block.scales[j] |= (u8)scale;
      block.scales[j + 4] |= (u8)minimum;
    } else {
      block.scales[j + 4] |= (u8)((scale & 15) | (minimum & 15) << 4);
      block.scales[j - 4] |= (u8)(scale >> 4 << 6);
      block.scales[j] |= (u8)(minimum >> 4 << 6);
    }
  }
  block.scale = f32_to_f16(most / 63);
  block.minimum = f32_to_f16(lowest / 63);
  ScalesAndMinima stored = scales_of(block.scales);
  f32 unit = f16_to_f32(block.scale), minimum_unit = f16_to_f32(block.minimum);
  for (int j = 0; j < 8; j++) {
    scales[j] = unit * (f32)stored.scale[j];
    minima[j] = minimum_unit * (f32)stored.minimum[j];
  }
}

INLINE void pack_scales(BlockQ6_K& block, f32* scales, f32*) {
  f32 extreme = extreme_of(scales, 16), inverse = -128 / extreme;
  bool empty = __builtin_fabsf(extreme) < LEAST_MAGNITUDE;
  block.scale = f32_to_f16(empty ? 0 : 1 / inverse);
  f32 unit = f16_to_f32(block.scale);
  for (int j = 0; j < 16; j++) {
    block.scales[j] = empty ? 0 : (i8)at_most(nearest(rounded(inverse * scales[j])), 127);
    scales[j] = unit * (f32)block.scales[j];
  }
}

// ---- levels as stored ----------------------------------------------------------------------------------------------

// Levels of a block's type lie from `low` to `high` and are stored from 0 on.
struct Levels {
  i32 low, high;
};
INLINE constexpr Levels levels_of(const BlockQ2_K*) { return {0, 3}; }
INLINE constexpr Levels levels_of(const BlockQ3_K*) { return {-4, 3}; }
INLINE constexpr Levels levels_of(const BlockQ4_K*) { return {0, 15}; }
INLINE constexpr Levels levels_of(const BlockQ5_K*) { return {0, 31}; }
INLINE constexpr Levels levels_of(const BlockQ6_K*) { return {-32, 31}; }

// Bits 2 * part and on of byte 32h + i are two bits of value 128h + 32 * part + i, from bit `from` of its level on.
INLINE void pack_pairs(u8* pairs, const u8* levels, int from) {
  for (int half = 0; half < 2; half++)
    for (int i = 0; i < 32; i++) {
      const u8* level = levels + half * 128 + i;
      int bits = 0;
      for (int part = 0; part < 4; part++) bits |= (level[part * 32] >> from & 3) << part * 2;
      pairs[half * 32 + i] = (u8)bits;
    }
}
// Bit k of byte i is bit `from` of the level of value 32k + i.
INLINE void pack_bits(u8* bits, const u8* levels, int from) {
  for (int i = 0; i < 32; i++) {
    int byte = 0;
    for (int k = 0; k < 8; k++) byte |= (levels[k * 32 + i] >> from & 1) << k;
    bits[i] = (u8)byte;
  }
}
// Pairs of values that lie `apart`, in groups of twice as many, share a byte.
INLINE void pack_nibbles(u8* nibbles, const u8* levels, int apart) {
  for (int i = 0; i < 128; i++) {
    const u8* level = levels + i / apart * 2 * apart + i % apart;
    nibbles[i] = (u8)((level[0] & 15) | level[apart] << 4);
  }
}

INLINE void pack_levels(BlockQ2_K& block, const u8* levels) { pack_pairs(block.pairs, levels, 0); }
INLINE void pack_levels(BlockQ3_K& block, const u8* levels) {
  pack_pairs(block.pairs, levels, 0);
  pack_bits(block.high, levels, 2);
}
INLINE void pack_levels(BlockQ4_K& block, const u8* levels) { pack_nibbles(block.nibbles, levels, 32); }
INLINE void pack_levels(BlockQ5_K& block, const u8* levels) {
  pack_nibbles(block.nibbles, levels, 32);
  pack_bits(block.high, levels, 4);
}
// A block whose scales are all 0 has no levels either.
INLINE void pack_levels(BlockQ6_K& block, const u8* levels) {
  int scales = 0;
  for (int j = 0; j < 16; j++) scales |= block.scales[j];
  const u8 none[256] = {};
  pack_nibbles(block.nibbles, scales ? levels : none, 64);
  pack_pairs(block.pairs, scales ? levels : none, 4);
}

// Replaces levels by the nearest ones for the scales and minima of the decoder; where a scale is 0, those of the search
// stay.
template <int N>
INLINE void round_levels(const vf* x, vf scale, vf minimum, vi* levels, Levels range) {
  vi kept = scale == splat(0);
  for (int i = 0; i < N; i++) {
    vi level = clamp(nearest((x[i] + minimum) / scale), range.low, range.high) - range.low;
    levels[i] = choose_bits(kept, levels[i], level);
  }
}

template <class Block>
static void encode_blocks_of_256(const f32* x, Block* out, isize blocks) {
  constexpr Block* TYPE = nullptr;
  constexpr int N = Block::SUB_VALUES, SUBS = 256 / N;
  constexpr int AT_ONCE = LANES > SUBS ? LANES / SUBS : 1;  // blocks whose sub-blocks fill the lanes
  constexpr int GROUPS = AT_ONCE * SUBS / LANES;
  for (isize first = 0; first < blocks; first += AT_ONCE) {
    isize count = minimum(blocks - first, AT_ONCE);
    vf values[GROUPS][N];
    vi levels[GROUPS][N];
    f32 scales[AT_ONCE * SUBS], minima[AT_ONCE * SUBS];
    for (int g = 0; g < GROUPS; g++) {
      gather_lanes<N>(x + first * 256 + g * LANES * N, count * SUBS - g * LANES, values[g]);
      Fit found = fit(TYPE, values[g], levels[g]);
      store(scales + g * LANES, found.scale);
      store(minima + g * LANES, found.minimum);
    }
    for (isize b = 0; b < count; b++) pack_scales(out[first + b], scales + b * SUBS, minima + b * SUBS);
    u8 stored[AT_ONCE * 256];
    for (int g = 0; g < GROUPS; g++) {
      round_levels<N>(values[g], load(scales + g * LANES), load(minima + g * LANES), levels[g], levels_of(TYPE));
      for (int i = 0; i < N; i++) scatter_levels<N>(levels[g][i], i, stored + g * LANES * N);
    }
    for (isize b = 0; b < count; b++) pack_levels(out[first + b], stored + b * 256);
  }
}
