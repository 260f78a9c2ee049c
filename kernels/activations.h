// Activations rounded to 8 bits: x = scale * q with whole q up to 127 and one scale for each block, so that products with
// weights of few bits are whole numbers, which have no order of sums to keep.
#pragma once
#include "bytes.h"

// One rounded row is `columns` bytes q, then a scale for each block, then the sums of q over each run of RUN values, which
// a weight's offset or minimum is multiplied by:
//   blocks of 32, runs of 32: sums are i32;
//   blocks of 256, runs of 32 or 16: sums are i16, two of which make a lane of a product of pairs.
// q of blocks of 256 are in order. Blocks of 32 are read with LANES neighbours of theirs in one step, and lie as a step needs
// them: see Place.
template <isize BLOCK_VALUES, isize RUN_VALUES>
struct Rounding {
  static constexpr isize BLOCK = BLOCK_VALUES, RUN = RUN_VALUES;
  typedef std::conditional_t<BLOCK == 32, i32, i16> Sum;

  INLINE const i8* values(const f32* row) { return (const i8*)row; }
  INLINE const f32* scales(const f32* row, isize columns) { return row + columns / 4; }
  INLINE const Sum* sums(const f32* row, isize columns) {
    return (const Sum*)(row + columns / 4 + columns / BLOCK);
  }
};

// Where the values of a block of 32 lie: 0 .. 15 from `offset` on and 16 .. 31 `upper` bytes after them. Of LANES neighbours,
// number 4 * L + p is piece L of two vectors, its lower and its upper half, which follow those of p - 1. Blocks that are too
// few for that, at the end of a row, are in order.
struct Place {
  isize offset, upper;
  INLINE Place of(isize block, isize columns) {
    isize lane = block % LANES, first = block - lane;
    if ((first + LANES) * 32 > columns) return {block * 32, 16};
    return {first * 32 + lane % 4 * 2 * VECTOR_BYTES + lane / 4 * 16, VECTOR_BYTES};
  }
};

// Floats of a rounded row of any kind.
INLINE isize rounded_floats(isize columns) { return round_up(columns / 4 + columns / 16, 16); }

// Rounds BLOCK values, number i to q[i / 16 * upper + i % 16]. A block with an infinity or not-a-number in it gets that as
// its scale, and zeros.
template <class R>
INLINE void round_block(const f32* x, i8* q, isize upper, f32* scale, typename R::Sum* sums) {
  vi most{};
  for (isize i = 0; i < R::BLOCK; i += LANES) {
    vi magnitude = (vi)load(x + i) & 0x7fffffff;
    most = most > magnitude ? most : magnitude;  // as integers, so that not-a-number is the largest
  }
  i32 bits = largest_lane(most);
  f32 largest;
  memcpy(&largest, &bits, sizeof largest);
  bool finite = bits < 0x7f800000;
  f32 inverse = finite && largest > 1e-30f ? 127.0f / largest : 0.0f;
  *scale = !finite ? __builtin_nanf("") : inverse == 0.0f ? 0.0f : largest / 127.0f;
  const vf factor = splat(inverse);
  vi run{};
  for (isize i = 0; i < R::BLOCK; i += LANES) {
    vi whole = finite ? nearest_ints(load(x + i) * factor) : vi{};
    typedef i8 bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
    *(bytes*)(q + i / 16 * upper + i % 16) = __builtin_convertvector(whole, bytes);
    run += whole;
    if ((i + LANES) % R::RUN == 0) {
      quad_ints four = add_pieces(run);
      *sums++ = (typename R::Sum)((four[0] + four[2]) + (four[1] + four[3]));
      run = vi{};
    }
  }
}

// Rounds one row of `columns` values, a multiple of BLOCK. `row` must not be where x is.
template <class R>
static void round_row(const f32* x, f32* row, isize columns) {
  i8* q = (i8*)row;
  f32* scales = row + columns / 4;
  typename R::Sum* sums = (typename R::Sum*)(scales + columns / R::BLOCK);
  for (isize b = 0; b < columns / R::BLOCK; b++) {
    Place place = R::BLOCK == 32 ? Place::of(b, columns) : Place{b * R::BLOCK, 16};
    round_block<R>(x + b * R::BLOCK, q + place.offset, place.upper, scales + b, sums + b * (R::BLOCK / R::RUN));
  }
}
