#pragma once
// A checksum of many bytes at the rate of memory: four lanes of multiply and fold (128-bit products), mixed at the end.
// It finds damage, and is not made against those who mean it.
#include <atomic>
#include <cstdint>

namespace statespace {

constexpr int64_t kDigestBytes = 32;
// `stop` ends it within a few megabytes, with ERR_ABORTED.
void digest(const uint8_t* bytes, int64_t size, uint8_t* to, const std::atomic<bool>* stop = nullptr);

}  // namespace statespace
