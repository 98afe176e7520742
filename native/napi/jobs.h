#pragma once
// Work off the event loop, on threads of the addon's own (libuv's are left to file and network work).
//
// A Job lives on the JavaScript thread before and after, and on a runner thread in between. An environment that ends
// (a terminated worker) cancels its jobs and waits for the running one before its memory goes.
#include <napi.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "core/error.h"

namespace statespace {

class Job {
 public:
  virtual ~Job() = default;
  // On a runner thread; may throw Error. A job overrides one of these: execute() does all of it, advance() a part, and
  // says whether there is more. Between parts others get their turn, and the next may run on another thread.
  virtual void execute() {}
  virtual bool advance() {
    execute();
    return false;
  }
  // What is left to do, in units of the job's own; asked between parts.
  virtual int64_t left() const { return 1; }
  // On the JavaScript thread, after the last part.
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
  static void schedule(std::shared_ptr<Shared> shared, Job* job, std::chrono::steady_clock::duration patience);
  void wake(Napi::Env env);
  void settle(Napi::Env env);
  void close();
  std::shared_ptr<Shared> shared_;
  Napi::FunctionReference set_immediate_, settle_;
  bool settling_ = false;  // settle() is about to be called
};

}  // namespace statespace
