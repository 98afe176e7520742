#pragma once
// Where a model's weights lie: those of the CPU side by side in one range of huge pages, since a step reads them all.
// Matrices of 1.3 MB on pages of 4 KB, a walk of the page tables each, came at 36 of 50 GB/s.
#include <memory>

#include "core/memory_map.h"
#include "program/program.h"

namespace statespace {

class WeightMemory {
 public:
  explicit WeightMemory(const Backend& backend) : backend_(&backend) {}
  WeightMemory(const Backend& backend, const Graph& graph) : backend_(&backend) {
    int64_t bytes = 0;
    for (const Value& v : graph.values)
      if (v.kind == ValueKind::weight) bytes += aligned(dtype_bytes(v.dtype, v.size()));
    if (backend.host_memory && bytes >= kWorthPages) range_bytes_ = bytes + bytes / 16;  // panels are padded
  }

  // Throws ERR_OUT_OF_MEMORY. The last holder frees it; a part of the range goes with all of it.
  std::shared_ptr<void> allocate(int64_t bytes) {
    if (!range_ && range_bytes_) {
      range_ = std::make_shared<ReservedMemory>(range_bytes_, range_bytes_);
      prefer_huge_pages(range_->data(), range_bytes_);
    }
    if (used_ + bytes <= range_bytes_) {
      const int64_t at = used_;
      range_->commit(at, bytes);
      used_ += aligned(bytes);
      return {static_cast<char*>(range_->data()) + at, [range = range_](void*) {}};
    }
    auto own = std::make_shared<BackendBuffer>(*backend_);
    void* data = own->reserve(bytes);
    return {data, [own](void*) {}};
  }

 private:
  static int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }
  // Below, a huge page would be mostly empty.
  static constexpr int64_t kWorthPages = 8 << 20;
  const Backend* backend_;
  std::shared_ptr<ReservedMemory> range_;
  int64_t range_bytes_ = 0, used_ = 0;
};

}  // namespace statespace
