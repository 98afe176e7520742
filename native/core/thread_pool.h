#pragma once
// The compute threads, shared by every model, session and worker of the process.
//
// A caller of parallel_for takes part in its own loop; pool threads join any loop that has pieces left. Pieces are
// claimed one by one, so a thread that loses its core delays at most the piece that it holds. Threads spin for a few
// microseconds after the last piece (decode opens a loop every few µs) and then sleep; nothing is pinned.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

namespace statespace {

class ThreadPool {
 public:
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;

  // The process-wide pool. Default size: physical cores, fewer under a container's quota, or STATESPACE_THREADS; throws
  // ERR_ARGUMENT where that is no number.
  static ThreadPool& global();

  int threads() const;
  // Why there are fewer threads than were asked for; empty where there are not.
  std::string shortage() const;
  void resize(int threads);

  using Body = void (*)(void* closure, int64_t index, int worker);
  // Calls body(index, worker) for every index in [0, count). `worker` < kMaxWorkers names the executing thread within
  // this loop, for scratch memory. Returns when all are done. The first exception of any piece reaches the caller, once
  // the pieces that have begun have ended; the others never begin. So it is, with ERR_ABORTED, when *stop becomes true.
  void run(int64_t count, Body body, void* closure, const std::atomic<bool>* stop = nullptr);

  template <class Fn>
  void parallel_for(int64_t count, Fn&& fn, const std::atomic<bool>* stop = nullptr) {
    run(
        count,
        [](void* closure, int64_t i, int worker) { (*static_cast<std::remove_reference_t<Fn>*>(closure))(i, worker); },
        const_cast<void*>(static_cast<const void*>(&fn)), stop);
  }

  static constexpr int kMaxWorkers = 64;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

int physical_cores();

// For a thread that computes: Linux (from 6.12 on) then lets threads with the usual, shorter turns in as soon as they
// wake, the event loop first of all. Its share of the processor stays what it is.
void take_long_turns();

// Whether a flag that is set means what it says: that of a synchronous call asks for a look (core/watched_call.h).
bool means_stop(const std::atomic<bool>* stop);
inline bool is_stopped(const std::atomic<bool>* stop) {
  return stop && stop->load(std::memory_order_relaxed) && means_stop(stop);
}
// Throws ERR_ABORTED.
[[noreturn]] void throw_stopped();
inline void throw_if_stopped(const std::atomic<bool>* stop) {
  if (is_stopped(stop)) throw_stopped();
}

}  // namespace statespace
