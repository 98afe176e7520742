#pragma once
// A checksum of many bytes at the rate of memory: four lanes of multiply and fold (128-bit products), mixed at the end.
// It finds damage, and is not made against those who mean it.
#include <cstdint>

namespace statespace {

constexpr int64_t kDigestBytes = 32;
void digest(const uint8_t* bytes, int64_t size, uint8_t* to);

}  // namespace statespace
