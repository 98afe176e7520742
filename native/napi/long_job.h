#pragma once
// A job that JavaScript can stop and that says how far it is.
#include "napi/convert.h"
#include "napi/jobs.h"

namespace statespace {

// A flag that JavaScript sets with Atomics and a job reads; kept alive by the job.
inline const volatile int32_t* cancel_flag(const Napi::Value& v) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_int32_array ||
      v.As<Napi::TypedArray>().ElementLength() < 1)
    throw Error(Code::kArgument, "cancel: expected an Int32Array of one element");
  return v.As<Napi::Int32Array>().Data();
}

// A job that can be cancelled by its flag and reports how far it is.
class LongJob : public Job {
 public:
  LongJob(const Napi::Value& cancel, const Napi::Value& on_progress) : flag_(cancel_flag(cancel)) {
    hold(cancel);
    if (on_progress.IsFunction()) on_progress_ = Napi::Persistent(on_progress.As<Napi::Function>());
  }
  bool stopped() const { return cancelled() || *flag_ != 0; }
  void report(int64_t done) {
    done_.store(done, std::memory_order_relaxed);
    if (!on_progress_.IsEmpty()) notify_progress();
  }
  void progress(Napi::Env env) override { on_progress_.Call({Napi::Number::New(env, double(done_.load()))}); }

 private:
  const volatile int32_t* flag_;
  std::atomic<int64_t> done_{0};
  Napi::FunctionReference on_progress_;
};

}  // namespace statespace
