#pragma once
// A call on a JavaScript thread that ends early when its environment does. Only that thread may ask whether it does, so
// the call's stop flag is always set, and where kernels look at it the thread asks every few milliseconds; the others
// hear what it has heard.
#include <atomic>

#include "core/thread_pool.h"

namespace statespace {

class WatchedCall {
 public:
  using Ended = bool (*)(const void* caller);
  // `ended` is called on this thread alone, in the middle of kernels.
  WatchedCall(Ended ended, const void* caller);
  ~WatchedCall();
  WatchedCall(const WatchedCall&) = delete;
  // nullptr where too many are under way at once: such a call runs to its end.
  const std::atomic<bool>* stop() const;

 private:
  int slot_;
};

}  // namespace statespace
