#pragma once
// A checksum of many bytes at the rate of memory: four lanes of multiply and fold (128-bit products), mixed at the end.
// It finds damage, and is not made against those who mean it.
#include <atomic>
#include <cstdint>

namespace statespace {

constexpr int64_t kDigestBytes = 32;

// Of bytes that come in pieces of any length.
class Digester {
 public:
  // Of so many bytes in all.
  explicit Digester(int64_t size);
  void take(const uint8_t* bytes, int64_t count);
  // After the last.
  void finish(uint8_t* to);

 private:
  static constexpr int kLanes = 4;
  static constexpr int64_t kBlock = 8 * kLanes;
  void blocks(const uint8_t* bytes, int64_t count);
  uint64_t state_[kLanes];
  uint8_t tail_[kBlock] = {};  // what does not fill a block yet
  int64_t kept_ = 0;
};

// `stop` ends it within a few megabytes, with ERR_ABORTED.
void digest(const uint8_t* bytes, int64_t size, uint8_t* to, const std::atomic<bool>* stop = nullptr);

}  // namespace statespace
