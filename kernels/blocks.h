// How the row-wise kernels split their work. Every split follows from the sizes alone, so that results are the same for
// every number of threads; what is small runs as one task, which pays for no thread.
#pragma once
#include "pool.h"

// Elements of one task where an element costs some arithmetic, and where it costs a memory access and little else.
constexpr isize TASK_ELEMENTS = 16384;
constexpr isize STREAM_ELEMENTS = 65536;
// The most parts of a sum; it bounds the memory that holds the partial sums.
constexpr isize MOST_PARTS = 64;

INLINE isize maximum(isize a, isize b) { return a > b ? a : b; }

// Rows of `width` elements that make up a task of TASK_ELEMENTS.
INLINE isize task_rows(isize width) { return maximum(1, TASK_ELEMENTS / maximum(1, width)); }

// task(begin, end) over blocks of rows.
template <class F>
static void parallel_rows(isize rows, isize width, F task) {
  parallel_blocks(rows, task_rows(width), task);
}

// f(i, n) for each vector of x[0 .. count), in tasks large enough to run at memory speed.
template <class F>
static void parallel_vectors(isize count, F f) {
  parallel_blocks(count, STREAM_ELEMENTS, [&](isize begin, isize end) {
    F own = f;  // a copy of what it captured stays in registers: no store can change it
    each_vector(end - begin, [&](isize i, isize n) INLINE_LAMBDA { own(begin + i, n); });
  });
}

// Items of one part when `count` items are split in at most MOST_PARTS parts of at least `least`.
INLINE isize part_size(isize count, isize least) { return round_up((count + MOST_PARTS - 1) / MOST_PARTS, least); }
INLINE isize part_count(isize count, isize least) {
  return count > 0 ? (count + part_size(count, least) - 1) / part_size(count, least) : 0;
}

// task(part, begin, end) for each part. Partial sums of the parts are to be added in order.
template <class F>
static void parallel_parts(isize count, isize least, F task) {
  isize size = part_size(count, least);
  parallel_for(part_count(count, least), [&](isize part) {
    task(part, part * size, minimum(count, (part + 1) * size));
  });
}
