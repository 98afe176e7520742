#pragma once
// Passes of a trainer over values, by all threads.
#include <algorithm>
#include <atomic>
#include <cstring>

#include "core/thread_pool.h"

namespace statespace {

// Values that one thread works on at a time; sums have their borders there.
constexpr int64_t kTrainerPiece = 1 << 16;

template <class Fn>
void for_pieces(int64_t count, const std::atomic<bool>* stop, Fn&& fn) {
  ThreadPool::global().parallel_for((count + kTrainerPiece - 1) / kTrainerPiece,
                                    [&](int64_t piece, int) {
                                      const int64_t begin = piece * kTrainerPiece;
                                      fn(begin, std::min(count, begin + kTrainerPiece));
                                    },
                                    stop);
}

// Pages that nobody has touched before cost more than most of a step.
inline void clear_pieces(void* to, int64_t bytes, const std::atomic<bool>* stop) {
  for_pieces(bytes, stop,
             [&](int64_t begin, int64_t end) { std::memset(static_cast<char*>(to) + begin, 0, end - begin); });
}

inline void copy_pieces(const float* from, float* to, int64_t count, const std::atomic<bool>* stop) {
  for_pieces(count, stop, [&](int64_t begin, int64_t end) { std::copy(from + begin, from + end, to + begin); });
}

}  // namespace statespace
