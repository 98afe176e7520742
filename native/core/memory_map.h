#pragma once
// Memory from the operating system: address ranges that cost nothing until touched, and files mapped for reading.
#include <cstdint>
#include <string>
#include <utility>

namespace statespace {

// A range of addresses whose pages are zero when first touched. Pools in it grow without ever moving.
class ReservedMemory {
 public:
  ReservedMemory() = default;
  // As much of `bytes` as the system grants, by halves; throws ERR_OUT_OF_MEMORY below `least`.
  ReservedMemory(int64_t bytes, int64_t least);
  ReservedMemory(ReservedMemory&& o) noexcept { *this = std::move(o); }
  ReservedMemory& operator=(ReservedMemory&& o) noexcept {
    std::swap(data_, o.data_), std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~ReservedMemory();
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Makes the range usable (needed on Windows only).
  void commit(int64_t offset, int64_t bytes);
  // Gives whole pages inside the range back to the system. Whether what is read there next is zero; else it may be what
  // was there.
  bool discard(int64_t offset, int64_t bytes);

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// Pages of whatever content, from the system and back to it at once. Throws ERR_OUT_OF_MEMORY.
void* allocate_pages(int64_t bytes);
void free_pages(void* p, int64_t bytes);
// The addresses stay, what they held is gone: not to be read or written again.
void discard_pages(void* p, int64_t bytes);

// Asks for large pages where the range holds any: fewer address translations for what is read from end to end.
void prefer_huge_pages(void* p, int64_t bytes);

// Returns to the system what the allocator keeps of memory that was freed: after work that needed much of it.
void return_freed_memory();

// A file of weights, read by copies: a map of it would end the process (SIGBUS) where another cuts the file short
// meanwhile, as a download does that starts again. Throws ERR_CHECKPOINT.
class WeightFile {
 public:
  explicit WeightFile(const std::string& path);
  ~WeightFile();
  WeightFile(const WeightFile&) = delete;
  int64_t bytes() const { return bytes_; }
  // From any thread.
  void read(int64_t offset, int64_t bytes, void* to) const;

 private:
  std::string path_;
  int64_t bytes_ = 0;
  intptr_t file_ = -1;
};

}  // namespace statespace
