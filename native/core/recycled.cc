#include "core/recycled.h"

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <iterator>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/afterwards.h"
#include "core/memory_map.h"

namespace statespace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSmall = 64 << 10, kLarge = 2 << 20, kKept = 256 << 20;
// Smaller blocks are cut from one of kLarge, which is one page of the system's where it has such: on virtual machines a
// megabyte of small pages costs 3.9 ms, of large ones 0.06 where the machine had them before, else 2.6.
constexpr bool is_part(int64_t size) { return size < kLarge; }
constexpr std::chrono::milliseconds kMoment(1);   // what 256 KB to 1 MB of fresh pages cost
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
    std::vector<Block>& free = free_[size];
    if (free.empty() && !is_part(size)) return nullptr;
    if (free.empty()) cut(size, free);
    void* p = free.back().data;
    free.pop_back();
    bytes_ -= size;
    return p;
  }

  void count_out(int64_t size) {
    const std::lock_guard lock(mutex_);
    ++out_[size];
  }

  // Until there is one of this size, at most so long; not where nobody has one that could come.
  void await(int64_t size, std::chrono::milliseconds most) {
    std::unique_lock lock(mutex_);
    if (out_[size] > 0) came_.wait_for(lock, most, [&] { return !free_[size].empty(); });
  }

  bool keep(void* p, int64_t size) {
    const std::lock_guard lock(mutex_);
    --out_[size];
    if (bytes_ + size > kKept || !reaper()) return false;
    bytes_ += size;
    free_[size].push_back({p, Clock::now()});
    came_.notify_all();
    return true;
  }

  // Back to the system. What was cut goes when all its parts have come; until then a part is an empty address.
  void retire(void* p, int64_t size) {
    if (!is_part(size)) return free_pages(p, size);
    discard_pages(p, size);
    void* whole;
    {
      const std::lock_guard lock(mutex_);
      const auto found = std::prev(parts_.upper_bound(p));
      if (--found->second > 0) return;
      whole = found->first;
      parts_.erase(found);
    }
    free_pages(whole, kLarge);
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

  void cut(int64_t size, std::vector<Block>& free) {
    char* whole = static_cast<char*>(allocate_pages(kLarge));
    const int64_t parts = parts_[whole] = kLarge / size;
    for (int64_t i = parts - 1; i >= 0; --i) free.push_back({whole + i * size, Clock::now()});
    bytes_ += parts * size;
    reaper();
  }

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
      for (const auto& [p, size] : idle) retire(p, size);
      if (done) return;
    }
  }

  std::mutex mutex_;
  std::condition_variable came_;
  std::map<int64_t, std::vector<Block>> free_;
  std::map<int64_t, int64_t> out_;  // how many of each size are in use
  std::map<void*, int64_t> parts_;  // blocks that were cut: parts that are not retired
  int64_t bytes_ = 0;
  bool reaping_ = false;
};

}  // namespace

int64_t Recycled::rounded(int64_t bytes) {
  const int64_t step = bytes <= kLarge / 2 ? kSmall : kLarge;
  return (bytes + step - 1) / step * step;
}

void* Recycled::take(int64_t size, bool* zeros) {
  void* p = Kept::get().take(size);
  if (zeros) *zeros = !p;
  if (!p) p = allocate_pages(size);
  Kept::get().count_out(size);
  return p;
}

void Recycled::give(void* p, int64_t size) {
  Kept& kept = Kept::get();
  if (kept.keep(p, size)) return;
  // Who gives is often the event loop, and the system takes 7 ms to have 128 MB back.
  const auto retire = [&kept, p, size] { kept.retire(p, size); };
  if (!afterwards(std::chrono::milliseconds(0), retire)) retire();
}

void Recycled::await(int64_t size) {
  // Asleep: the thread that frees it may need this processor.
  if (!is_part(size)) Kept::get().await(size, kMoment);
}

int64_t Recycled::kept() { return Kept::get().bytes(); }

FloatBlock FloatBlock::of_zeros(int64_t count) {
  FloatBlock block;
  block.count_ = count;
  block.size_ = Recycled::rounded(4 * count);
  bool zeros = true;
  if (block.size_) block.data_ = static_cast<float*>(Recycled::take(block.size_, &zeros));
  if (!zeros) std::memset(block.data_, 0, size_t(4 * count));
  return block;
}

}  // namespace statespace
