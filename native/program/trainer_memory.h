#pragma once
// Memory of a trainer: zeros side by side in huge pages, since a step passes through all of it. Freed as a whole.
#include <algorithm>
#include <utility>
#include <vector>

#include "core/memory_map.h"

namespace statespace {

class TrainerMemory {
 public:
  TrainerMemory() = default;
  TrainerMemory(const TrainerMemory&) = delete;
  ~TrainerMemory() {
    for (const auto& [data, bytes] : blocks_) free_pages(data, bytes);
  }

  // 64-byte aligned; throws ERR_OUT_OF_MEMORY.
  void* take(int64_t bytes) {
    const int64_t wanted = (std::max<int64_t>(bytes, 1) + 63) / 64 * 64;
    if (wanted > left_) {
      // As much again as there is, up to kMost: little for a small network, few blocks for a large one.
      const int64_t least = std::clamp(all_, kPage, kMost),
                    size = (std::max(wanted, least) + kPage - 1) / kPage * kPage;
      blocks_.reserve(blocks_.size() + 1);
      blocks_.emplace_back(allocate_pages(size), size);
      next_ = static_cast<char*>(blocks_.back().first), left_ = size, all_ += size;
    }
    void* p = next_;
    next_ += wanted, left_ -= wanted;
    return p;
  }
  float* floats(int64_t count) { return static_cast<float*>(take(count * 4)); }

 private:
  static constexpr int64_t kPage = 2 << 20, kMost = 16 << 20;
  std::vector<std::pair<void*, int64_t>> blocks_;
  char* next_ = nullptr;
  int64_t left_ = 0, all_ = 0;
};

}  // namespace statespace
