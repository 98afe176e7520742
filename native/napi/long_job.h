#pragma once
// A job that JavaScript can stop and that says how far it is.
#include "napi/convert.h"
#include "napi/jobs.h"

namespace statespace {

// A job that can be cancelled by a flag that JavaScript sets with Atomics, and reports how far it is.
class LongJob : public Job {
 public:
  LongJob(const Napi::Value& cancel, const Napi::Value& on_progress) {
    if (!cancel.IsTypedArray() || cancel.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array)
      throw Error(Code::kArgument, "cancel: expected an Int32Array of one element");
    stop_at(cancel.As<Napi::Int32Array>());
    if (on_progress.IsFunction()) on_progress_ = Napi::Persistent(on_progress.As<Napi::Function>());
  }
  bool stopped() const { return cancelled() || stop()->load(std::memory_order_relaxed); }
  void report(int64_t done) {
    done_.store(done, std::memory_order_relaxed);
    if (!on_progress_.IsEmpty()) notify_progress();
  }
  void progress(Napi::Env env) override { on_progress_.Call({Napi::Number::New(env, double(done_.load()))}); }

 private:
  std::atomic<int64_t> done_{0};
  Napi::FunctionReference on_progress_;
};

}  // namespace statespace
