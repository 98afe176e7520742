#pragma once
// Memory for results that leave the addon: blocks that the collector has given back, for the next result of that size.
// Fresh memory is paid for page by page when it is first written: a scan of 2048 tokens by 1536 channels took 5 ms, its
// caller waited 35.
#include <cstdint>
#include <utility>

namespace statespace {

struct Recycled {
  static int64_t rounded(int64_t bytes);
  // Of a rounded size; throws ERR_OUT_OF_MEMORY. What is given back, by any thread, is kept: up to 256 MB in all, and
  // no longer than about two seconds without use.
  // `zeros`: whether it holds zeros now.
  static void* take(int64_t size, bool* zeros = nullptr);
  static void give(void* p, int64_t size);
  // Waits for a large block of this size to be given back, a moment at most: after a collection, whose freeing V8
  // leaves to another thread.
  static void await(int64_t size);
  static int64_t kept();  // bytes that wait for their next use
};

// Floats in such a block, owned.
class FloatBlock {
 public:
  FloatBlock() = default;
  explicit FloatBlock(int64_t count) : count_(count), size_(Recycled::rounded(4 * count)) {
    if (size_) data_ = static_cast<float*>(Recycled::take(size_));
  }
  static FloatBlock of_zeros(int64_t count);
  FloatBlock(FloatBlock&& o) noexcept { *this = std::move(o); }
  FloatBlock& operator=(FloatBlock&& o) noexcept {
    std::swap(data_, o.data_), std::swap(count_, o.count_), std::swap(size_, o.size_);
    return *this;
  }
  ~FloatBlock() {
    if (data_) Recycled::give(data_, size_);
  }
  float* data() const { return data_; }
  int64_t count() const { return count_; }
  int64_t size() const { return size_; }  // of the block, in bytes
  // To one who gives it back.
  float* release() { return std::exchange(data_, nullptr); }

 private:
  float* data_ = nullptr;
  int64_t count_ = 0, size_ = 0;
};

}  // namespace statespace
