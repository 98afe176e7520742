#include "napi/jobs.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <new>
#include <queue>
#include <system_error>
#include <thread>

#include "core/denormals.h"
#include "core/thread_pool.h"
#include "napi/backing_store.h"
#include "napi/convert.h"

namespace statespace {

// What runner threads and one environment share; outlives whichever ends first.
struct Jobs::Shared {
  std::mutex mutex;
  std::condition_variable idle;
  std::vector<Job*> live;  // queued or running
  std::vector<Job*> done;
  int running = 0;
  bool closed = false;
  napi_threadsafe_function wake = nullptr;

  void ping() {
    if (!closed) napi_call_threadsafe_function(wake, nullptr, napi_tsfn_nonblocking);
  }
};

namespace {

using Clock = std::chrono::steady_clock;

// A job waiting for its next part. Parts run in the order of their deadlines: of those that wait, the one that is
// soonest done goes first, and one that was passed over for as long as four of its parts take goes before newer ones.
struct Turn {
  Clock::time_point deadline;
  uint64_t number;
  std::function<void()> run;
  bool operator<(const Turn& o) const {  // a priority_queue hands out the largest
    return deadline != o.deadline ? deadline > o.deadline : number > o.number;
  }
};

// What JavaScript takes between two steps of a large model. Woken from its sleep, a runner came 60 to 100 us after a
// step was asked for.
constexpr auto kLinger = std::chrono::microseconds(300);

// As many runners as compute threads, at least two: a step does not wait for the chunk of a long prompt.
class Runners {
 public:
  static Runners& get() {
    static Runners* runners = new Runners;  // never destroyed: threads may run until the process ends
    return *runners;
  }
  void push(Clock::duration patience, std::function<void()> run) {
    {
      std::unique_lock lock(mutex_);
      turns_.push({Clock::now() + patience, number_++, std::move(run)});
      // Waiting runners count once each: one that was woken and has not yet come is not free for a second turn.
      if (int64_t(turns_.size()) > idle_ && threads_ < std::max(2, ThreadPool::global().threads())) grow();
      // Where the system gives no thread at all, the caller does the work.
      if (threads_ == 0) return run_here(lock);
      pushed_.fetch_add(1, std::memory_order_release);
      if (lingering_ >= int64_t(turns_.size())) return;
    }
    wake_.notify_one();
  }

 private:
  void grow() {
    try {
      std::thread([this] { loop(); }).detach();
      ++threads_;
    } catch (const std::system_error&) {
    }
  }
  std::function<void()> next() {
    // The queue's elements are const to its users; this one leaves it at once.
    auto run = std::move(const_cast<Turn&>(turns_.top()).run);
    turns_.pop();
    return run;
  }
  // Until the next turn comes, or is not soon to come, giving way all the while. After short turns, whose steps wake it
  // fast enough, the wait would only be in JavaScript's way.
  void linger(std::unique_lock<std::mutex>& lock, Clock::duration took) {
    if (ThreadPool::global().threads() < 2) return;
    const uint64_t seen = pushed_.load(std::memory_order_relaxed);
    ++lingering_;
    lock.unlock();
    const auto until = Clock::now() + std::min<Clock::duration>(kLinger, took / 8);
    while (pushed_.load(std::memory_order_acquire) == seen && Clock::now() < until) std::this_thread::yield();
    lock.lock();
    --lingering_;
  }
  void run_here(std::unique_lock<std::mutex>& lock) {
    while (!turns_.empty()) {
      const auto run = next();
      lock.unlock();
      run();
      lock.lock();
    }
  }
  void loop() {
    flush_denormals();
    take_long_turns();
    Clock::duration took{};
    std::unique_lock lock(mutex_);
    for (;;) {
      ++idle_;
      if (turns_.empty()) linger(lock, took);
      wake_.wait(lock, [&] { return !turns_.empty(); });
      --idle_;
      auto run = next();
      lock.unlock();
      const auto began = Clock::now();
      run();
      run = nullptr;
      took = Clock::now() - began;
      lock.lock();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::priority_queue<Turn> turns_;
  uint64_t number_ = 0;
  int64_t idle_ = 0, lingering_ = 0;
  std::atomic<uint64_t> pushed_{0};
  int threads_ = 0;
};

}  // namespace

// Outlives its job where the environment ends first.
struct Job::Hook {
  Jobs* owner;
  static void run(void* self) {
    const std::unique_ptr<Hook> hook(static_cast<Hook*>(self));
    hook->owner->stop();
  }
};

void Job::hold(const Napi::Value& value) {
  if (!value.IsObject()) return;
  held_.push_back(Napi::Persistent(value.As<Napi::Object>()));
  if (value.IsTypedArray() && Jobs::of(value.Env()).knows_backing_stores)
    if (auto memory = share_memory(value.As<Napi::TypedArray>())) memory_.push_back(std::move(memory));
}

void Job::stop_at(const Napi::Int32Array& flag) {
  static_assert(sizeof(std::atomic<bool>) == 1 && std::atomic<bool>::is_always_lock_free);
  if (flag.ElementLength() < 1) throw Error(Code::kArgument, "cancel: expected an Int32Array of one element");
  hold(flag);
  // Its lowest byte, where the machine is little-endian.
  flag_ = reinterpret_cast<std::atomic<bool>*>(const_cast<int32_t*>(flag.Data()));
}

void Job::notify_progress() {
  if (progressed_.exchange(true)) return;
  std::lock_guard lock(owner_->shared_->mutex);
  owner_->shared_->ping();
}

Jobs::Jobs(Napi::Env env)
    : knows_backing_stores(statespace::knows_backing_stores(env)),
      waiting(std::make_shared<WaitingBlocks>()),
      shared_(std::make_shared<Shared>()) {
  const napi_value name = Napi::String::New(env, "statespace");
  napi_create_threadsafe_function(
      env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
      [](napi_env env, napi_value, void* context, void*) {
        if (env) static_cast<Jobs*>(context)->wake(Napi::Env(env));
      },
      &shared_->wake);
  napi_unref_threadsafe_function(env, shared_->wake);
  const Napi::Value set_immediate = env.Global().Get("setImmediate");
  if (set_immediate.IsFunction()) set_immediate_ = Napi::Persistent(set_immediate.As<Napi::Function>());
  settle_ = Napi::Persistent(Napi::Function::New(env, [this](const Napi::CallbackInfo& info) { settle(info.Env()); }));
  set_immediate_.SuppressDestruct();
  settle_.SuppressDestruct();
  // Hooks run in reverse order: this one before the threadsafe function's own.
  napi_add_env_cleanup_hook(
      env, [](void* jobs) { static_cast<Jobs*>(jobs)->close(); }, this);
}

void Jobs::stop() {
  std::unique_lock lock(shared_->mutex);
  shared_->closed = true;
  for (Job* job : shared_->live) job->cancel();
  shared_->idle.wait(lock, [&] { return shared_->running == 0; });
}

void Jobs::close() {
  stop();
  std::vector<Job*> left;
  {
    std::lock_guard lock(shared_->mutex);
    left.swap(shared_->live);
    left.insert(left.end(), shared_->done.begin(), shared_->done.end());
    shared_->done.clear();
  }
  for (Job* job : left) delete job;
}

Jobs& Jobs::of(Napi::Env env) { return *env.GetInstanceData<Jobs>(); }

Napi::Promise Jobs::start(Napi::Env env, std::unique_ptr<Job> owned) {
  ThreadPool::global();  // may throw, which is to happen before anything has begun
  Job* job = owned.release();
  job->owner_ = this;
  job->deferred_ = std::make_unique<Napi::Promise::Deferred>(env);
  const Napi::Promise promise = job->deferred_->Promise();
  job->hook_ = new Job::Hook{this};
  napi_add_env_cleanup_hook(env, Job::Hook::run, job->hook_);
  {
    std::lock_guard lock(shared_->mutex);
    if (shared_->live.empty() && shared_->done.empty()) napi_ref_threadsafe_function(env, shared_->wake);
    shared_->live.push_back(job);
  }
  schedule(shared_, job, Clock::duration::zero());
  return promise;
}

void Jobs::schedule(std::shared_ptr<Shared> shared, Job* job, Clock::duration patience) {
  Runners::get().push(patience, [shared = std::move(shared), job] {
    {
      std::lock_guard lock(shared->mutex);
      // A closed environment has deleted its queued jobs.
      if (shared->closed) return;
      ++shared->running;
    }
    bool more = false;
    const int64_t left = job->left();
    const auto started = Clock::now();
    try {
      more = job->advance();
    } catch (const Error& e) {
      job->error_ = std::make_unique<Error>(e);
    } catch (const std::bad_alloc&) {
      job->error_ = std::make_unique<Error>(Code::kOutOfMemory, "out of memory");
    } catch (const std::exception& e) {
      job->error_ = std::make_unique<Error>(Code::kState, e.what());
    }
    const auto took = Clock::now() - started;
    const int64_t still = more ? job->left() : 0, did = std::max<int64_t>(1, left - still);
    bool closed;
    {
      std::lock_guard lock(shared->mutex);
      --shared->running;
      closed = shared->closed;
      if (!more) {
        std::erase(shared->live, job);
        shared->done.push_back(job);
        shared->ping();
      }
      if (closed) shared->idle.notify_all();
    }
    if (!more || closed) return;
    const double parts = std::min(4.0, double(still) / double(did));
    schedule(shared, job, std::chrono::duration_cast<Clock::duration>(took * parts));
  });
}

// Promises settle once for each turn of the event loop. Settled right here, with the jobs that their continuations
// start and that have ended by then, up to a thousand rounds would pass before a timer or a socket is looked at.
void Jobs::wake(Napi::Env env) {
  if (settling_) return;
  if (set_immediate_.IsEmpty()) return settle(env);
  try {
    set_immediate_.Call({settle_.Value()});
    settling_ = true;
  } catch (const Napi::Error&) {  // the environment is ending
  }
}

void Jobs::settle(Napi::Env env) {
  settling_ = false;
  const Napi::HandleScope scope(env);
  std::vector<Job*> done, live;
  {
    std::lock_guard lock(shared_->mutex);
    done.swap(shared_->done);
    live = shared_->live;
    if (live.empty() && !done.empty()) napi_unref_threadsafe_function(env, shared_->wake);
  }
  // A worker_thread that is being terminated refuses every call into JavaScript, and nobody waits for its promises.
  const auto unless_ending = [](auto&& call) {
    try {
      call();
    } catch (const Napi::Error&) {
    }
  };
  const auto report = [&](Job* job) {
    if (!job->progressed_.exchange(false)) return;
    try {
      job->progress(env);
    } catch (const Napi::Error& error) {  // it ends the job, and is what the promise rejects with
      if (job->thrown_.IsEmpty()) job->thrown_ = error;
      job->cancel();
    }
  };
  for (Job* job : live) report(job);
  for (Job* job : done) {
    const std::unique_ptr<Job> owned(job);
    napi_remove_env_cleanup_hook(env, Job::Hook::run, job->hook_);
    delete job->hook_;
    report(job);
    unless_ending([&] {
      try {
        if (!job->thrown_.IsEmpty())
          job->deferred_->Reject(job->thrown_.Value());
        else if (job->error_)
          job->deferred_->Reject(to_js(env, *job->error_).Value());
        else
          job->deferred_->Resolve(job->result(env));
      } catch (const Napi::Error& e) {
        job->deferred_->Reject(e.Value());
      } catch (const Error& e) {
        job->deferred_->Reject(to_js(env, e).Value());
      }
    });
  }
}

}  // namespace statespace
