// What threads of the system and workers of a wasm host do differently: how an idle one rests, what a lock is, and
// whether the heap has one of its own. THREADED is 0 for wasm without shared memory, which has one thread.
#pragma once
#include <stdint.h>
#include <stdlib.h>

#if !defined(__wasm__)

#define THREADED 1
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

typedef std::mutex Lock;

// Turns of an idle worker's loop before it rests: a moment, because the next kernel usually follows at once.
constexpr int IDLE_SPINS = 10000;

static void pause_thread() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Where idle workers rest until the ticket changes.
struct Rest {
  std::mutex mutex;
  std::condition_variable woken;

  // Returns once `ticket` is not `value`, and sometimes before.
  void wait(std::atomic<uint64_t>& ticket, uint64_t value) {
    std::unique_lock<std::mutex> lock(mutex);
    if (ticket.load(std::memory_order_relaxed) == value) woken.wait(lock);
  }
  void publish(std::atomic<uint64_t>& ticket, uint64_t value) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      ticket.store(value, std::memory_order_release);
    }
    woken.notify_all();
  }
};

#elif defined(__wasm_atomics__)

#define THREADED 1
#include <atomic>

// Nobody sleeps on a lock, because the main thread of a page may not; it is only held for a moment.
struct Lock {
  std::atomic<bool> held{false};
  bool try_lock() { return !held.exchange(true, std::memory_order_acquire); }
  void lock() {
    while (!try_lock()) {
    }
  }
  void unlock() { held.store(false, std::memory_order_release); }
};

// More than above: wasm has no instruction that makes a turn longer, and waking takes longer.
constexpr int IDLE_SPINS = 200000;

static void pause_thread() {}

// The host's futex, on the ticket itself. The caller of a kernel never waits here, only workers do.
struct Rest {
  std::atomic<int32_t> resting{0};

  void wait(std::atomic<uint64_t>& ticket, uint64_t value) {
    resting.fetch_add(1);
    __builtin_wasm_memory_atomic_wait64((int64_t*)&ticket, (int64_t)value, -1);
    resting.fetch_sub(1);
  }
  // Sequentially consistent, as is `wait`: a worker that is not counted yet finds the new ticket and does not rest.
  void publish(std::atomic<uint64_t>& ticket, uint64_t value) {
    ticket.store(value);
    if (resting.load() > 0) __builtin_wasm_memory_atomic_notify((int32_t*)&ticket, UINT32_MAX);
  }
};

#else

#define THREADED 0

#endif

#if defined(__wasm_atomics__)
// The C library here is the one for a single thread, so its heap is locked from outside.
static Lock heap_lock;

static void* heap_allocate(size_t alignment, size_t bytes) {
  heap_lock.lock();
  void* block = aligned_alloc(alignment, bytes);
  heap_lock.unlock();
  return block;
}
static void heap_release(void* block) {
  heap_lock.lock();
  free(block);
  heap_lock.unlock();
}
#else
static void* heap_allocate(size_t alignment, size_t bytes) { return aligned_alloc(alignment, bytes); }
static void heap_release(void* block) { free(block); }
#endif
