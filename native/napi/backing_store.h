#pragma once
// An ArrayBuffer over memory of the addon's own, as V8 itself would have made it: transferable, counted by the
// collector, and given back by whichever thread drops it last. Node-API's external buffers are none of these: Node
// marks them as untransferable, its collector does not hear of them in a synchronous loop, and an environment that ends
// takes their memory from under a running kernel.
//
// V8's own API is not stable across versions of Node, so it is looked up at run time and used only in those that the
// tests run in (20, 22 and 24, on Linux); elsewhere results are buffers that the runtime allocates.
#include <napi.h>

#include <atomic>
#include <cstdint>
#include <memory>

#include "core/recycled.h"

namespace statespace {

// Whether this environment's runtime is one of those. Asked once per environment.
bool knows_backing_stores(Napi::Env env);

// Blocks of one environment that wait for their next use, as V8 hears of them. It counts buffers until it has looked at
// what a collection freed, so that a loop of dropped results rose and fell by 40 MB; and where its heap holds more than
// 8 MB of objects, it marks all of that for a rise of as little as 16. What waits is memory still: with it the sum is
// level.
class WaitingBlocks {
 public:
  // After a block was given back, by any thread. Larger ones are left out: told of before V8 has counted them out, a
  // few are as much as it lets its count rise at all (64 MB).
  void add(int64_t bytes) {
    if (bytes <= kMost) came_.fetch_add(bytes, std::memory_order_relaxed);
  }
  // On the environment's thread: before V8 makes a buffer, as it then takes collected ones out of its count, and after
  // a block was taken.
  void tell(Napi::Env env);
  bool none() const { return told_ == 0 && came_.load(std::memory_order_relaxed) == 0; }

 private:
  static constexpr int64_t kMost = 8 << 20;
  std::atomic<int64_t> came_{0};  // not told yet
  int64_t told_ = 0;
  int64_t counted_ = 0;  // by V8 in all, after the last tell()
};

// `bytes` of the block as an ArrayBuffer, `waiting` hears of its end. Needs knows_backing_stores.
Napi::ArrayBuffer array_buffer_over(Napi::Env env, FloatBlock block, int64_t bytes,
                                    std::shared_ptr<WaitingBlocks> waiting);

// Has V8 collect young objects where their buffers hold 32 MB (128 in Node 24): it looks when it allocates one's
// memory. No buffer is made, with which it would count out what it has just collected before it hears that this waits.
void collect_young();

// Has V8 count out the buffers that it has collected, if all of them are freed.
void have_counted(Napi::Env env);

// A share of the memory behind a typed array, whoever made it: detaching or collecting it frees nothing while this
// lives. Empty where the runtime is not known. May be dropped on any thread.
std::shared_ptr<void> share_memory(const Napi::TypedArray& array);

}  // namespace statespace
