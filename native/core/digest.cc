#include "core/digest.h"

#include <algorithm>
#include <cstring>

#include "core/thread_pool.h"

namespace statespace {
namespace {

constexpr int64_t kPiece = 4 << 20;  // bytes between two looks at `stop`
constexpr uint64_t kStep[] = {0x9e3779b97f4a7c15ull, 0xbf58476d1ce4e5b9ull, 0x94d049bb133111ebull,
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

Digester::Digester(int64_t size) {
  for (int l = 0; l < kLanes; ++l) state_[l] = fold(uint64_t(size) + kStep[l], kStep[(l + 1) % kLanes]);
}

void Digester::blocks(const uint8_t* bytes, int64_t count) {
  uint64_t state[kLanes];  // in registers: the bytes could be anything's, this object's too
  std::copy(state_, state_ + kLanes, state);
  // (state + word) is a bijection of either; each lane multiplies by its own constant, so that words cannot change
  // places.
  for (; count > 0; --count, bytes += kBlock)
    for (int l = 0; l < kLanes; ++l) state[l] = fold(state[l] + word(bytes + 8 * l), kStep[l]);
  std::copy(state, state + kLanes, state_);
}

void Digester::take(const uint8_t* bytes, int64_t count) {
  if (kept_ > 0) {
    const int64_t n = std::min(count, kBlock - kept_);
    if (n > 0) std::memcpy(tail_ + kept_, bytes, size_t(n));
    kept_ += n, bytes += n, count -= n;
    if (kept_ < kBlock) return;
    blocks(tail_, 1);
  }
  blocks(bytes, count / kBlock);
  kept_ = count % kBlock;
  if (kept_ > 0) std::memcpy(tail_, bytes + count - kept_, size_t(kept_));
}

void Digester::finish(uint8_t* to) {
  std::memset(tail_ + kept_, 0, size_t(kBlock - kept_));
  blocks(tail_, 1);
  for (int round = 0; round < 2; ++round)
    for (int l = 0; l < kLanes; ++l) state_[(l + 1) % kLanes] = fold(state_[(l + 1) % kLanes] ^ state_[l], kStep[l]);
  std::memcpy(to, state_, sizeof(state_));
}

void digest(const uint8_t* bytes, int64_t size, uint8_t* to, const std::atomic<bool>* stop) {
  Digester all(size);
  for (int64_t i = 0; i < size; i += kPiece) {
    throw_if_stopped(stop);
    all.take(bytes + i, std::min(kPiece, size - i));
  }
  all.finish(to);
}

}  // namespace statespace
