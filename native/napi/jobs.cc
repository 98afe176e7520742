#include "napi/jobs.h"

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <new>
#include <thread>

#include "core/denormals.h"
#include "core/thread_pool.h"
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

// As many runners as compute threads, at least two: a long forward must not hold up a small op.
class Runners {
 public:
  static Runners& get() {
    static Runners* runners = new Runners;  // never destroyed: threads may run until the process ends
    return *runners;
  }
  void push(std::function<void()> task) {
    std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
    if (idle_ == 0 && threads_ < std::max(2, ThreadPool::global().threads())) {
      ++threads_;
      std::thread([this] { loop(); }).detach();
    }
    wake_.notify_one();
  }

 private:
  void loop() {
    flush_denormals();
    for (;;) {
      std::function<void()> task;
      {
        std::unique_lock lock(mutex_);
        ++idle_;
        wake_.wait(lock, [&] { return !tasks_.empty(); });
        --idle_;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> tasks_;
  int threads_ = 0, idle_ = 0;
};

}  // namespace

void Job::notify_progress() {
  if (progressed_.exchange(true)) return;
  std::lock_guard lock(owner_->shared_->mutex);
  owner_->shared_->ping();
}

Jobs::Jobs(Napi::Env env) : shared_(std::make_shared<Shared>()) {
  const napi_value name = Napi::String::New(env, "statespace");
  napi_create_threadsafe_function(
      env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this,
      [](napi_env env, napi_value, void* context, void*) {
        if (env) static_cast<Jobs*>(context)->settle(Napi::Env(env));
      },
      &shared_->wake);
  napi_unref_threadsafe_function(env, shared_->wake);
  // Hooks run in reverse order: this one before the threadsafe function's own.
  napi_add_env_cleanup_hook(
      env, [](void* jobs) { static_cast<Jobs*>(jobs)->close(); }, this);
}

void Jobs::close() {
  std::vector<Job*> left;
  {
    std::unique_lock lock(shared_->mutex);
    shared_->closed = true;
    for (Job* job : shared_->live) job->cancel();
    shared_->idle.wait(lock, [&] { return shared_->running == 0; });
    left.swap(shared_->live);
    left.insert(left.end(), shared_->done.begin(), shared_->done.end());
    shared_->done.clear();
  }
  for (Job* job : left) delete job;
}

Jobs& Jobs::of(Napi::Env env) { return *env.GetInstanceData<Jobs>(); }

Napi::Promise Jobs::start(Napi::Env env, std::unique_ptr<Job> owned) {
  Job* job = owned.release();
  job->owner_ = this;
  job->deferred_ = std::make_unique<Napi::Promise::Deferred>(env);
  const Napi::Promise promise = job->deferred_->Promise();
  {
    std::lock_guard lock(shared_->mutex);
    if (shared_->live.empty() && shared_->done.empty()) napi_ref_threadsafe_function(env, shared_->wake);
    shared_->live.push_back(job);
  }
  Runners::get().push([shared = shared_, job] {
    {
      std::lock_guard lock(shared->mutex);
      // A closed environment has deleted its queued jobs.
      if (shared->closed) return;
      ++shared->running;
    }
    try {
      job->execute();
    } catch (const Error& e) {
      job->error_ = std::make_unique<Error>(e);
    } catch (const std::bad_alloc&) {
      job->error_ = std::make_unique<Error>(Code::kOutOfMemory, "out of memory");
    } catch (const std::exception& e) {
      job->error_ = std::make_unique<Error>(Code::kState, e.what());
    }
    std::lock_guard lock(shared->mutex);
    --shared->running;
    std::erase(shared->live, job);
    shared->done.push_back(job);
    shared->ping();
    shared->idle.notify_all();
  });
  return promise;
}

void Jobs::settle(Napi::Env env) {
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
    } catch (const Napi::Error&) {
      job->cancel();
    }
  };
  for (Job* job : live) report(job);
  for (Job* job : done) {
    const std::unique_ptr<Job> owned(job);
    report(job);
    unless_ending([&] {
      try {
        if (job->error_)
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
