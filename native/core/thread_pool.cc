#include "core/thread_pool.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <mutex>
#include <set>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "core/cpu_quota.h"
#include "core/denormals.h"
#include "core/error.h"

namespace statespace {
namespace {

constexpr int kRegions = 32;
constexpr uint32_t kOpen = 1u << 31;     // workers may join
constexpr uint32_t kClaimed = 1u << 30;  // a caller owns the slot
constexpr uint32_t kUsers = kClaimed - 1;
constexpr auto kSpin = std::chrono::microseconds(40);

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

struct alignas(64) Region {
  std::atomic<uint32_t> state{0};
  std::atomic<int> workers{0};
  std::atomic<int64_t> count{0};  // has_work() may look while the next loop sets it
  ThreadPool::Body body = nullptr;
  void* closure = nullptr;
  const std::atomic<bool>* stop = nullptr;
  std::atomic<bool> failed{false};
  std::exception_ptr failure;  // of the first piece that threw
  alignas(64) std::atomic<int64_t> next{0};

  void work(int worker) {
    const int64_t end = count.load(std::memory_order_relaxed);
    try {
      for (int64_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < end;) {
        throw_if_stopped(stop);
        body(closure, i, worker);
      }
    } catch (...) {
      if (!failed.exchange(true)) failure = std::current_exception();
      next.store(end, std::memory_order_relaxed);  // the others end with the piece that they hold
    }
  }
  bool has_work() const {
    return (state.load(std::memory_order_acquire) & kOpen) &&
           next.load(std::memory_order_relaxed) < count.load(std::memory_order_relaxed);
  }
  bool join() {
    uint32_t s = state.load(std::memory_order_relaxed);
    while (s & kOpen)
      if (state.compare_exchange_weak(s, s + 1, std::memory_order_acq_rel)) return true;
    return false;
  }
};

}  // namespace

struct ThreadPool::Impl {
  Region regions[kRegions];
  std::atomic<uint32_t> epoch{0};
  std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  std::atomic<int> size{1};
  int wanted = 1;  // threads asked for, where the system made fewer, and why
  std::string shortage;
  std::mutex mutex;
  std::condition_variable wake;
  std::mutex resize_mutex;
  std::vector<std::thread> threads;

  // Runs pieces of one region; false when no region has work.
  bool help() {
    for (auto& r : regions) {
      if (!r.has_work() || !r.join()) continue;
      const int worker = r.workers.fetch_add(1, std::memory_order_relaxed) + 1;
      if (worker < kMaxWorkers) r.work(worker);
      r.state.fetch_sub(1, std::memory_order_release);
      return true;
    }
    return false;
  }

  void loop() {
    flush_denormals();
    take_long_turns();
    while (!stop.load(std::memory_order_relaxed)) {
      const uint32_t seen = epoch.load(std::memory_order_seq_cst);
      if (help()) continue;
      const auto until = std::chrono::steady_clock::now() + kSpin;
      bool news = false;
      do {
        for (int i = 0; i < 32 && !news; ++i) pause(), news = epoch.load(std::memory_order_relaxed) != seen;
      } while (!news && std::chrono::steady_clock::now() < until);
      if (news) continue;
      std::unique_lock lock(mutex);
      sleepers.fetch_add(1, std::memory_order_seq_cst);
      wake.wait(lock, [&] { return epoch.load(std::memory_order_seq_cst) != seen || stop.load(); });
      sleepers.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  void announce() {
    epoch.fetch_add(1, std::memory_order_seq_cst);
    if (sleepers.load(std::memory_order_seq_cst) > 0) {
      { std::lock_guard lock(mutex); }
      wake.notify_all();
    }
  }

  // As many threads as the system grants: a container may allow few.
  void start(int count) {
    stop = false;
    wanted = count;
    shortage.clear();
    try {
      for (int i = 1; i < count; ++i) threads.emplace_back([this] { loop(); });
    } catch (const std::system_error& e) {
      shortage = e.code().message();
    }
    size = int(threads.size()) + 1;
  }
  void join_all() {
    stop = true;
    { std::lock_guard lock(mutex); }
    wake.notify_all();
    for (auto& t : threads) t.join();
    threads.clear();
  }
};

ThreadPool::ThreadPool(int threads) : impl_(std::make_unique<Impl>()) {
  impl_->start(std::clamp(threads, 1, kMaxWorkers));
}
ThreadPool::~ThreadPool() { impl_->join_all(); }

int ThreadPool::threads() const { return impl_->size.load(std::memory_order_relaxed); }

std::string ThreadPool::shortage() const {
  std::lock_guard lock(impl_->resize_mutex);
  if (impl_->shortage.empty()) return "";
  return "asked for " + std::to_string(impl_->wanted) + ", the system allowed " + std::to_string(threads()) + ": " +
         impl_->shortage;
}

// Loops in progress go on with their callers, and with whichever threads have joined them.
void ThreadPool::resize(int threads) {
  std::lock_guard lock(impl_->resize_mutex);
  impl_->join_all();
  impl_->start(std::clamp(threads, 1, kMaxWorkers));
}

void ThreadPool::run(int64_t count, Body body, void* closure, const std::atomic<bool>* stop) {
  if (count <= 0) return;
  Region* region = nullptr;
  if (count > 1 && threads() > 1)
    for (auto& r : impl_->regions) {
      uint32_t free = 0;
      if (r.state.compare_exchange_strong(free, kClaimed, std::memory_order_acq_rel)) {
        region = &r;
        break;
      }
    }
  if (!region) {
    for (int64_t i = 0; i < count; ++i) throw_if_stopped(stop), body(closure, i, 0);
    return;
  }
  region->count.store(count, std::memory_order_relaxed);
  region->body = body;
  region->closure = closure;
  region->stop = stop;
  region->failed.store(false, std::memory_order_relaxed);
  region->workers.store(0, std::memory_order_relaxed);
  region->next.store(0, std::memory_order_relaxed);
  region->state.fetch_or(kOpen, std::memory_order_release);
  impl_->announce();
  region->work(0);
  region->state.fetch_and(~kOpen, std::memory_order_acq_rel);
  // A helper's last piece is short; only when its core was taken is it worth giving way.
  for (int spins = 0; region->state.load(std::memory_order_acquire) & kUsers; ++spins) {
    if (spins < 4096) {
      pause();
      continue;
    }
    is_stopped(stop);  // a synchronous call's helpers hear only what this thread asks
    std::this_thread::yield();
  }
  const std::exception_ptr failure = std::exchange(region->failure, nullptr);
  region->state.store(0, std::memory_order_release);
  if (failure) std::rethrow_exception(failure);
}

void throw_stopped() { throw Error(Code::kAborted, "aborted"); }

void take_long_turns() {
#if defined(SYS_sched_getattr) && defined(SYS_sched_setattr)
  struct {  // sched_attr, which not every libc declares
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
  } attr = {};
  if (syscall(SYS_sched_getattr, 0, &attr, sizeof(attr), 0) != 0 || attr.policy != SCHED_OTHER) return;
  attr.runtime = 20'000'000;  // ns
  syscall(SYS_sched_setattr, 0, &attr, 0);
#endif
}

int physical_cores() {
#ifdef __linux__
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    std::set<std::string> cores;
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
      if (!CPU_ISSET(cpu, &allowed)) continue;
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      std::string siblings;
      if (!std::getline(file, siblings)) siblings = std::to_string(cpu);
      cores.insert(siblings);
    }
    if (!cores.empty()) return static_cast<int>(cores.size());
  }
#endif
  return std::max(1u, std::thread::hardware_concurrency());
}

namespace {

// STATESPACE_THREADS, else physical cores as far as a container's quota pays for them.
int default_threads() {
  const char* text = std::getenv("STATESPACE_THREADS");
  if (!text || !*text) return std::clamp(int(cpu_quota() + 0.5), 1, physical_cores());
  char* end;
  const long wanted = std::strtol(text, &end, 10);
  if (*end || wanted < 1 || wanted > 1024)
    throw Error(Code::kArgument,
                std::string("STATESPACE_THREADS: expected an integer from 1 to 1024, received '") + text + "'");
  return int(wanted);
}

}  // namespace

ThreadPool& ThreadPool::global() {
  // Never destroyed: worker_threads may still be inside a loop when the process exits.
  static ThreadPool* pool = new ThreadPool(default_threads());
  return *pool;
}

}  // namespace statespace
