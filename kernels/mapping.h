// Files as memory, for the native build alone: read-only, and one mapping for all who open the same file in this process.
//
// The pages of a mapped file are read when they are touched. Where the file has meanwhile become shorter, or its disk fails,
// touching one raises SIGBUS, which would end the process in the middle of a kernel. A handler puts zeros in the place of
// all that is left of the mapping and marks it as damaged; whoever uses it asks after each pass, and throws.
#pragma once

#if defined(__unix__) || defined(__APPLE__)
#define OLMOE_MAPS_FILES 1

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

namespace mapping {

// Never freed, because a handler may be reading it on another thread; used again for a later file.
struct Mapping {
  std::atomic<uintptr_t> begin{0};
  std::atomic<size_t> bytes{0};
  std::atomic<bool> damaged{false};
  // The rest is read and written under the lock.
  int users = 0;
  int descriptor = -1;
  struct stat facts;
  Mapping* next = nullptr;
};

inline std::atomic<Mapping*> first{nullptr};
inline std::mutex lock;
inline struct sigaction previous_handler;

// Another handler's fault, or none's: the default is to end the process, which running the instruction again does.
inline void pass_on(int signal, siginfo_t* info, void* context) {
  if (previous_handler.sa_flags & SA_SIGINFO) return previous_handler.sa_sigaction(signal, info, context);
  if (previous_handler.sa_handler != SIG_DFL && previous_handler.sa_handler != SIG_IGN)
    return previous_handler.sa_handler(signal);
  sigaction(signal, &previous_handler, nullptr);
  if (info->si_code <= 0) raise(signal);
}

// Makes no calls but to the system: the thread may be anywhere.
inline void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const uintptr_t address = (uintptr_t)info->si_addr;
  for (Mapping* each = first.load(); each != nullptr && info->si_code > 0; each = each->next) {
    const uintptr_t begin = each->begin.load();
    const size_t bytes = each->bytes.load();
    if (begin == 0 || address < begin || address - begin >= bytes) continue;
    // All pages behind this one are gone as well: one call instead of a fault for each.
    const uintptr_t page = address & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap((void*)page, begin + bytes - page, PROT_READ, flags, -1, 0) == MAP_FAILED) break;
    each->damaged.store(true);
    errno = saved;
    return;
  }
  pass_on(signal, info, context);
}

inline void install_handler() {
  static bool installed = false;
  if (installed) return;
  struct sigaction action = {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  installed = sigaction(SIGBUS, &action, &previous_handler) == 0;
}

inline int64_t modified(const struct stat& facts) {
#if defined(__APPLE__)
  return (int64_t)facts.st_mtimespec.tv_sec * 1000000000 + facts.st_mtimespec.tv_nsec;
#else
  return (int64_t)facts.st_mtim.tv_sec * 1000000000 + facts.st_mtim.tv_nsec;
#endif
}

inline bool same_file(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_size == b.st_size && modified(a) == modified(b);
}

// Whether the file is no longer what was mapped.
inline bool is_damaged(const Mapping* mapping) {
  struct stat now;
  if (mapping->damaged.load()) return true;
  return fstat(mapping->descriptor, &now) != 0 || !same_file(now, mapping->facts);
}

// The mapping of an open file of `bytes` bytes, or null with the reason in errno. The descriptor stays the caller's.
inline Mapping* open(int descriptor, size_t bytes) {
  std::lock_guard<std::mutex> guard(lock);
  struct stat facts;
  if (fstat(descriptor, &facts) != 0) return nullptr;
  if ((size_t)facts.st_size != bytes || bytes == 0) {
    errno = ESTALE;
    return nullptr;
  }
  Mapping* unused = nullptr;
  for (Mapping* each = first.load(); each != nullptr; each = each->next) {
    if (each->users == 0) unused = each;
    else if (same_file(each->facts, facts) && !is_damaged(each)) {
      each->users++;
      return each;
    }
  }
  // Its own descriptor, to see whether the file has changed.
  const int own = dup(descriptor);
  if (own < 0) return nullptr;
  void* begin = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, own, 0);
  if (begin == MAP_FAILED) {
    const int reason = errno;
    close(own);
    errno = reason;
    return nullptr;
  }
#if defined(MADV_HUGEPAGE)
  // Reads it in large pages where the file system has them: with small ones a fifth of the time of weights that stream is
  // spent on looking up where they are. What is in memory already stays as it is.
  madvise(begin, bytes, MADV_HUGEPAGE);
#endif
  install_handler();
  Mapping* mapping = unused != nullptr ? unused : new Mapping;
  mapping->users = 1;
  mapping->descriptor = own;
  mapping->facts = facts;
  mapping->damaged.store(false);
  mapping->bytes.store(bytes);
  mapping->begin.store((uintptr_t)begin);
  if (unused == nullptr) {
    mapping->next = first.load();
    first.store(mapping);
  }
  return mapping;
}

// Ends one use; the last one unmaps.
inline void release(Mapping* mapping) {
  std::lock_guard<std::mutex> guard(lock);
  if (--mapping->users > 0) return;
  void* begin = (void*)mapping->begin.load();
  mapping->begin.store(0);
  munmap(begin, mapping->bytes.load());
  close(mapping->descriptor);
}

}  // namespace mapping

#endif
