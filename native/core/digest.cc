#include "core/digest.h"

#include <algorithm>
#include <cstring>

#include "core/thread_pool.h"

namespace statespace {
namespace {

constexpr int kLanes = 4;
constexpr int64_t kPiece = 4 << 20;  // bytes between two looks at `stop`
constexpr uint64_t kStep[kLanes] = {0x9e3779b97f4a7c15ull, 0xbf58476d1ce4e5b9ull, 0x94d049bb133111ebull,
                                    0xd6e8feb86659fd93ull};

// Both halves of a·b, folded. Never forgets a: the product alone would, where b is 0.
uint64_t fold(uint64_t a, uint64_t b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a ^ 0x2545f4914f6cdd1dull) * (b | 1);
  return uint64_t(product) ^ uint64_t(product >> 64) ^ a;
}

uint64_t word(const uint8_t* p) {
  uint64_t w;
  std::memcpy(&w, p, sizeof(w));
  return w;
}

}  // namespace

void digest(const uint8_t* bytes, int64_t size, uint8_t* to, const std::atomic<bool>* stop) {
  uint64_t state[kLanes];
  for (int l = 0; l < kLanes; ++l) state[l] = fold(uint64_t(size) + kStep[l], kStep[(l + 1) % kLanes]);
  constexpr int64_t kBlock = 8 * kLanes;
  const auto take = [&](const uint8_t* block) {
    // (state + word) is a bijection of either; each lane multiplies by its own constant, so that words cannot change
    // places.
    for (int l = 0; l < kLanes; ++l) state[l] = fold(state[l] + word(block + 8 * l), kStep[l]);
  };
  int64_t i = 0;
  while (i + kBlock <= size) {
    throw_if_stopped(stop);
    for (const int64_t end = std::min(size, i + kPiece); i + kBlock <= end; i += kBlock) take(bytes + i);
  }
  uint8_t tail[kBlock] = {};
  if (size > i) std::memcpy(tail, bytes + i, size_t(size - i));
  take(tail);
  for (int round = 0; round < 2; ++round)
    for (int l = 0; l < kLanes; ++l) state[(l + 1) % kLanes] = fold(state[(l + 1) % kLanes] ^ state[l], kStep[l]);
  std::memcpy(to, state, sizeof(state));
}

}  // namespace statespace
