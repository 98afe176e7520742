#pragma once
// Work off the event loop, on threads of the addon's own (libuv's are left to file and network work).
//
// A Job lives on the JavaScript thread before and after, and on a runner thread in between. An environment that ends
// (a terminated worker) cancels its jobs and waits for those that run before any memory goes that they were given: what
// frees it are clean-up hooks, which run in reverse order, so each job adds its own when it starts.
#include <napi.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <vector>

#include "core/error.h"

namespace statespace {

class WaitingBlocks;

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
  // Set when the environment ends: nobody will see what this job leaves behind.
  const std::atomic<bool>* ended() const { return &cancelled_; }
  // What the pieces of a loop look at.
  const std::atomic<bool>* stop() const { return flag_ ? flag_ : &cancelled_; }
  void cancel() {
    cancelled_ = true;
    if (flag_) *flag_ = true;
  }
  // From now on it also ends when JavaScript writes 1 into this flag.
  void stop_at(const Napi::Int32Array& flag);
  // From execute(): schedules progress() on the JavaScript thread.
  void notify_progress();
  // Keeps a value alive until the job has settled, and a typed array's memory though its buffer be transferred or
  // detached meanwhile.
  void hold(const Napi::Value& value);

 private:
  friend class Jobs;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool>* flag_ = nullptr;
  std::atomic<bool> progressed_{false};
  std::vector<Napi::ObjectReference> held_;
  std::vector<std::shared_ptr<void>> memory_;
  std::unique_ptr<Napi::Promise::Deferred> deferred_;
  std::unique_ptr<Error> error_;
  Napi::Error thrown_;  // by a progress callback
  class Jobs* owner_ = nullptr;
  struct Hook;
  Hook* hook_ = nullptr;
};

// The jobs of one environment.
class Jobs {
 public:
  explicit Jobs(Napi::Env env);
  static Jobs& of(Napi::Env env);
  Napi::Promise start(Napi::Env env, std::unique_ptr<Job> job);
  // Whether buffers here can be made of the addon's own memory (backing_store.h).
  const bool knows_backing_stores;
  // Weak, to an object that nobody holds: by it one sees that V8 has collected (memory.cc).
  Napi::ObjectReference unheld;
  const std::shared_ptr<WaitingBlocks> waiting;

 private:
  friend class Job;
  struct Shared;
  static void schedule(std::shared_ptr<Shared> shared, Job* job, std::chrono::steady_clock::duration patience);
  void wake(Napi::Env env);
  void settle(Napi::Env env);
  void stop();
  void close();
  std::shared_ptr<Shared> shared_;
  Napi::FunctionReference set_immediate_, settle_;
  bool settling_ = false;  // settle() is about to be called
};

}  // namespace statespace
