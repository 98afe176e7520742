#pragma once
// Scratch memory of one running program or eager op: grows to the largest request and is then reused, so that a forward
// pass allocates nothing.
#include <cstdint>
#include <memory>

#include "core/thread_pool.h"

namespace statespace {

void* aligned_alloc_bytes(int64_t bytes);  // 64-byte aligned; throws ERR_OUT_OF_MEMORY
void aligned_free(void* p);

class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes) : data_(aligned_alloc_bytes(bytes)), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept : data_(other.data_), bytes_(other.bytes_) {
    other.data_ = nullptr, other.bytes_ = 0;
  }
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_), std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Buffer() { aligned_free(data_); }
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Contents are lost when it grows.
  void* reserve(int64_t bytes) {
    if (bytes > bytes_) *this = Buffer(bytes + bytes / 8);
    return data_;
  }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

class Scratch {
 public:
  void* local(int worker, int64_t bytes) { return locals_[worker].reserve(bytes); }
  void* shared(int64_t bytes) { return shared_.reserve(bytes); }
  void* kept(int64_t bytes) { return kept_.reserve(bytes); }
  int64_t bytes() const {
    int64_t total = shared_.bytes() + kept_.bytes();
    for (const auto& b : locals_) total += b.bytes();
    return total;
  }

 private:
  Buffer locals_[ThreadPool::kMaxWorkers];
  Buffer shared_, kept_;
};

}  // namespace statespace
