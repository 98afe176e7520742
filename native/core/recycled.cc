#include "core/recycled.h"

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/memory_map.h"

namespace statespace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSmall = 64 << 10, kLarge = 2 << 20, kKept = 256 << 20;
constexpr std::chrono::milliseconds kIdle(2000);  // a quarter of 2 s in whole seconds would be no time at all

// Blocks that nobody uses, by size, the longest unused first.
class Kept {
 public:
  static Kept& get() {
    static Kept* kept = new Kept;  // never destroyed: blocks come back until the process ends
    return *kept;
  }

  void* take(int64_t size) {
    const std::lock_guard lock(mutex_);
    const auto found = free_.find(size);
    if (found == free_.end() || found->second.empty()) return nullptr;
    void* p = found->second.back().data;
    found->second.pop_back();
    bytes_ -= size;
    return p;
  }

  bool keep(void* p, int64_t size) {
    const std::lock_guard lock(mutex_);
    if (bytes_ + size > kKept || !reaper()) return false;
    bytes_ += size;
    free_[size].push_back({p, Clock::now()});
    return true;
  }

  int64_t bytes() {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

 private:
  struct Block {
    void* data;
    Clock::time_point since;
  };

  // A thread that frees what nobody has used for a while, and ends when nothing is left. False where there is none.
  bool reaper() {
    if (reaping_) return true;
    try {
      std::thread([this] { reap(); }).detach();
      return reaping_ = true;
    } catch (const std::system_error&) {
      return false;
    }
  }

  void reap() {
    for (;;) {
      std::this_thread::sleep_for(kIdle / 4);
      std::vector<std::pair<void*, int64_t>> idle;
      bool done;
      {
        const std::lock_guard lock(mutex_);
        const auto before = Clock::now() - kIdle;
        for (auto& [size, blocks] : free_) {
          size_t n = 0;
          for (; n < blocks.size() && blocks[n].since < before; ++n) idle.emplace_back(blocks[n].data, size);
          blocks.erase(blocks.begin(), blocks.begin() + int64_t(n));
          bytes_ -= int64_t(n) * size;
        }
        done = bytes_ == 0;
        if (done) reaping_ = false;
      }
      for (const auto& [p, size] : idle) free_pages(p, size);
      if (done) return;
    }
  }

  std::mutex mutex_;
  std::map<int64_t, std::vector<Block>> free_;
  int64_t bytes_ = 0;
  bool reaping_ = false;
};

}  // namespace

int64_t Recycled::rounded(int64_t bytes) {
  const int64_t step = bytes < kLarge ? kSmall : kLarge;
  return (bytes + step - 1) / step * step;
}

void* Recycled::take(int64_t size) {
  void* p = Kept::get().take(size);
  return p ? p : allocate_pages(size);
}

void Recycled::give(void* p, int64_t size) {
  if (!Kept::get().keep(p, size)) free_pages(p, size);
}

int64_t Recycled::kept() { return Kept::get().bytes(); }

}  // namespace statespace
