#include "core/afterwards.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

namespace statespace {
namespace {

using Clock = std::chrono::steady_clock;

class Line {
 public:
  static Line& get() {
    static Line* line = new Line;  // never destroyed: its thread may outlive everything else
    return *line;
  }

  bool add(Clock::time_point when, std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    if (!running_) {
      try {
        std::thread([this] { run(); }).detach();
      } catch (const std::system_error&) {
        return false;
      }
      running_ = true;
    }
    waiting_.emplace(when, std::move(work));
    news_.notify_one();
    return true;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (!waiting_.empty()) {
      const auto first = waiting_.begin();
      if (first->first > Clock::now()) {
        news_.wait_until(lock, Clock::time_point(first->first));  // something earlier may come
        continue;
      }
      const auto work = std::move(waiting_.extract(first).mapped());
      lock.unlock();
      work();
      lock.lock();
    }
    running_ = false;
  }

  std::mutex mutex_;
  std::condition_variable news_;
  std::multimap<Clock::time_point, std::function<void()>> waiting_;
  bool running_ = false;
};

}  // namespace

bool afterwards(std::chrono::milliseconds delay, std::function<void()> work) {
  return Line::get().add(Clock::now() + delay, std::move(work));
}

}  // namespace statespace
