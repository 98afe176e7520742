#pragma once
// What a kernel may use besides its op struct: the threads, and scratch memory that outlives no call.
#include <algorithm>
#include <cstdint>

#include "core/scratch.h"
#include "core/stretches.h"
#include "core/thread_pool.h"
#include "core/tile_unit.h"

namespace statespace {

struct Context {
  ThreadPool& pool;
  Scratch& scratch;
  TileUnit tiles = TileUnit::none;
  bool exact = false;                       // products round no activations: neither to bf16 nor to int8
  const std::atomic<bool>* stop = nullptr;  // for is_stopped(): whether nobody waits for the result any more

  // At least `bytes` of 64-byte aligned memory, private to `worker`, until the kernel returns.
  template <class T>
  T* local(int worker, int64_t count) const {
    return static_cast<T*>(scratch.local(worker, count * sizeof(T)));
  }
  // The same, shared by all workers of this kernel call. One block a call.
  template <class T>
  T* shared(int64_t count) const {
    return static_cast<T*>(scratch.shared(count * sizeof(T)));
  }
  // The same, for a kernel that runs others: their scratch does not touch it.
  template <class T>
  T* kept(int64_t count) const {
    return static_cast<T*>(scratch.kept(count * sizeof(T)));
  }
  int threads() const { return pool.threads(); }
  template <class Fn>
  void parallel_for(int64_t count, Fn&& fn) const {
    pool.parallel_for(count, fn, stop);
  }
  // The same for pieces that lie side by side in memory and are read once: each thread runs a stretch of them in order
  // and then what others have left of theirs, so that memory is read in long runs.
  template <class Fn>
  void parallel_stretches(int64_t count, Fn&& fn) const {
    Stretches stretches(count, threads());
    parallel_for(stretches.parts(), [&](int64_t part, int worker) {
      stretches.run(part, [&](int64_t i) {
        check_stop();
        fn(i, worker);
      });
    });
  }
  // Between the steps of a long piece; throws ERR_ABORTED.
  void check_stop() const { throw_if_stopped(stop); }
};

}  // namespace statespace
