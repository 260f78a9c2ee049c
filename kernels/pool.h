// A persistent pool of threads, per-thread scratch memory, and splits of work that do not depend on either.
#pragma once
#include "simd.h"
#include "threads.h"

// Scratch memory of the calling thread, grown when needed and kept. Each purpose has a slot of its own, so that nested
// uses do not meet. Sizes are bounded by block sizes, never by a whole matrix.
enum Slot { SLOT_A, SLOT_B, SLOT_C, SLOT_D, SLOT_E, SLOT_F, SLOT_G, SLOT_SHARED, SLOT_TASKS, SLOT_COUNT };

static f32* scratch(Slot slot, isize floats) {
  struct Buffer {
    f32* data = nullptr;
    isize capacity = 0;
  };
  static thread_local Buffer buffers[SLOT_COUNT];
  Buffer& buffer = buffers[slot];
  if (buffer.capacity < floats) {
    heap_release(buffer.data);
    buffer.capacity = (floats + 1023) / 1024 * 1024;
    buffer.data = (f32*)heap_allocate(64, (size_t)buffer.capacity * sizeof(f32));
    if (!buffer.data) abort();  // a few megabytes at most: the machine is out of memory altogether
  }
  return buffer.data;
}

static isize thread_count = 1;

#if THREADED

// One job at a time. A claim on a task is one atomic addition to `ticket`, which carries the job's number and its count
// of tasks beside the next index, so that a worker which comes late can never mistake one job for another and nobody
// waits for a worker that is asleep. A worker that finds nothing to do spins for a moment, because the next kernel
// usually follows at once, and then sleeps.
struct Pool {
  typedef void (*Call)(void* context, isize task);
  static constexpr int INDEX_BITS = 24, COUNT_BITS = 24;
  static constexpr uint64_t INDEX_MASK = (1u << INDEX_BITS) - 1, COUNT_MASK = (1u << COUNT_BITS) - 1;

  Lock owner;  // held while a job runs; a second caller does its work alone
  Rest rest;
  std::atomic<uint64_t> ticket{0};  // job << 48 | count << 24 | next index
  std::atomic<isize> done{0};
  std::atomic<isize> limit{0};      // workers from this number on sit out
  std::atomic<bool> broken{false};  // a worker ended within a task, so that `done` would never be reached
  isize workers = 0;
  Call call = nullptr;
  void* context = nullptr;

  static uint64_t job_of(uint64_t value) { return value >> (INDEX_BITS + COUNT_BITS); }

  void drain() {
    for (;;) {
      uint64_t claim = ticket.fetch_add(1, std::memory_order_acq_rel);
      isize index = (isize)(claim & INDEX_MASK);
      if (index >= (isize)((claim >> INDEX_BITS) & COUNT_MASK)) return;
      call(context, index);
      done.fetch_add(1, std::memory_order_release);
    }
  }

  void work(isize index, uint64_t seen) {
    for (;;) {
      auto idle = [&] { return job_of(ticket.load(std::memory_order_acquire)) == seen; };
      for (int spin = 0; spin < IDLE_SPINS && idle(); spin++) pause_thread();
      for (uint64_t value; job_of(value = ticket.load(std::memory_order_acquire)) == seen;) rest.wait(ticket, value);
      seen = job_of(ticket.load(std::memory_order_acquire));
      if (index < limit.load(std::memory_order_relaxed)) drain();
    }
  }

  void run(isize tasks, Call function, void* argument) {
    call = function;
    context = argument;
    done.store(0, std::memory_order_relaxed);
    uint64_t job = (job_of(ticket.load(std::memory_order_relaxed)) + 1) & 0xffff;
    rest.publish(ticket, job << (INDEX_BITS + COUNT_BITS) | (uint64_t)tasks << INDEX_BITS);
    drain();
    while (done.load(std::memory_order_acquire) != tasks) {
      if (broken.load(std::memory_order_relaxed)) abort();
      pause_thread();
    }
  }
};

#if defined(__wasm__)

static Pool& pool() {
  static Pool instance;
  return instance;
}

// The host starts the workers, which enter by olmoe_worker, and asks for as many threads as it has.
static isize pool_resize(isize count) {
  thread_count = count < 1 ? 1 : count;
  pool().limit.store(thread_count - 1);
  return thread_count;
}

#else

// Never destroyed: its threads outlive every caller.
static Pool& pool() {
  static Pool* instance = new Pool;
  return *instance;
}

static isize pool_resize(isize count) {
  Pool& p = pool();
  std::lock_guard<std::mutex> lock(p.owner);
  isize most = (isize)std::thread::hardware_concurrency() * 4;
  thread_count = count < 1 ? 1 : count > most && most > 0 ? most : count;
  p.limit.store(thread_count - 1);
  while (p.workers < thread_count - 1) {
    isize index = p.workers++;
    std::thread(&Pool::work, &p, index, Pool::job_of(p.ticket.load())).detach();
  }
  return thread_count;
}

#endif

// Runs task(i) for i in 0 .. count-1, in any order and on any thread: tasks must not share outputs.
template <class F>
static void parallel_for(isize count, F task) {
  Pool& p = pool();
  if (count < 2 || count > (isize)Pool::COUNT_MASK || thread_count < 2 || !p.owner.try_lock()) {
    for (isize i = 0; i < count; i++) task(i);
    return;
  }
  p.run(count, [](void* context, isize i) { (*(F*)context)(i); }, &task);
  p.owner.unlock();
}

#else

static isize pool_resize(isize) { return 1; }
template <class F>
static void parallel_for(isize count, F task) {
  for (isize i = 0; i < count; i++) task(i);
}

#endif

// Splits `count` items in blocks of `block`: task(begin, end). The block size is part of a kernel, not of the machine.
template <class F>
static void parallel_blocks(isize count, isize block, F task) {
  parallel_for((count + block - 1) / block, [&](isize i) {
    isize begin = i * block;
    task(begin, begin + block < count ? begin + block : count);
  });
}

INLINE isize minimum(isize a, isize b) { return a < b ? a : b; }
INLINE isize round_up(isize value, isize multiple) { return (value + multiple - 1) / multiple * multiple; }
