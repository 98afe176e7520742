#include "core/recycled.h"

#include <map>
#include <mutex>
#include <vector>

#include "core/scratch.h"

namespace statespace {
namespace {

constexpr int64_t kSmall = 64 << 10, kLarge = 2 << 20, kKept = 128 << 20;

struct Kept {
  std::mutex mutex;
  std::map<int64_t, std::vector<void*>> free;
  int64_t bytes = 0;

  static Kept& get() {
    static Kept* kept = new Kept;  // never destroyed: finalizers may run until the process ends
    return *kept;
  }
};

}  // namespace

int64_t Recycled::rounded(int64_t bytes) {
  const int64_t step = bytes < kLarge ? kSmall : kLarge;
  return (bytes + step - 1) / step * step;
}

void* Recycled::take(int64_t size) {
  Kept& kept = Kept::get();
  {
    const std::lock_guard lock(kept.mutex);
    auto& list = kept.free[size];
    if (!list.empty()) {
      void* p = list.back();
      list.pop_back();
      kept.bytes -= size;
      return p;
    }
  }
  return aligned_alloc_bytes(size);
}

void Recycled::give(void* p, int64_t size) {
  Kept& kept = Kept::get();
  {
    const std::lock_guard lock(kept.mutex);
    if (kept.bytes + size <= kKept) {
      kept.bytes += size;
      return kept.free[size].push_back(p);
    }
  }
  aligned_free(p);
}

}  // namespace statespace
