#pragma once
// Work off the event loop, on threads of the addon's own (libuv's are left to file and network work).
//
// A Job lives on the JavaScript thread before and after, and on a runner thread in between. An environment that ends
// (a terminated worker) cancels its jobs and waits for the running one before its memory goes.
#include <napi.h>

#include <atomic>
#include <memory>
#include <vector>

#include "core/error.h"

namespace statespace {

class Job {
 public:
  virtual ~Job() = default;
  // On a runner thread. May throw Error.
  virtual void execute() = 0;
  // On the JavaScript thread, after execute() returned.
  virtual Napi::Value result(Napi::Env env) = 0;
  // On the JavaScript thread, after notify_progress(), before the promise settles.
  virtual void progress(Napi::Env) {}

  // Asked between steps of a long job.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  void cancel() { cancelled_ = true; }
  // From execute(): schedules progress() on the JavaScript thread.
  void notify_progress();
  // Keeps a value alive until the job has settled.
  void hold(const Napi::Value& value) {
    if (value.IsObject()) held_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  }

 private:
  friend class Jobs;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> progressed_{false};
  std::vector<Napi::ObjectReference> held_;
  std::unique_ptr<Napi::Promise::Deferred> deferred_;
  std::unique_ptr<Error> error_;
  class Jobs* owner_ = nullptr;
};

// The jobs of one environment.
class Jobs {
 public:
  explicit Jobs(Napi::Env env);
  static Jobs& of(Napi::Env env);
  Napi::Promise start(Napi::Env env, std::unique_ptr<Job> job);

 private:
  friend class Job;
  struct Shared;
  void settle(Napi::Env env);
  void close();
  std::shared_ptr<Shared> shared_;
};

}  // namespace statespace
