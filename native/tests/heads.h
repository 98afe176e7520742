#pragma once
// Cases for the recurrences over a head's (key, value) state: packings, head sizes, and a check against f64.
#include "tests/support.h"

namespace statespace::test {

struct Packing {
  std::vector<int32_t> bounds, slots;
  int64_t pool;
  int64_t tokens() const { return bounds.back(); }
};

// One token, one chunk and a bit, chunks almost full or half, ragged with an empty sequence and slots out of order.
inline std::vector<Packing> packings() {
  return {{{0, 1}, {0}, 1},
          {{0, 70}, {1}, 2},
          {{0, 7, 22, 48}, {2, 0, 1}, 3},
          {{0, 1, 18, 18, 100, 116}, {3, 0, 1, 5, 2}, 6}};
}

struct HeadShape {
  int64_t nheads, key, value;
};
inline std::vector<HeadShape> head_shapes() {
  return {{1, 1, 1}, {2, 4, 4}, {3, 5, 7}, {2, 10, 6}, {1, 64, 64}, {2, 33, 80}, {1, 20, 130}};
}

inline double largest(const std::vector<float>& v) {
  double m = 0;
  for (float x : v) m = std::max(m, std::fabs(double(x)));
  return m;
}

// The error relative to the largest expected value, and at least to 1.
inline double scaled_error(const std::vector<float>& got, const std::vector<float>& expected) {
  return max_error(got, expected) / std::max(1.0, largest(expected));
}

// Runs `step(sequence's first token, one past its last, state row)` over the sequences of a packing.
template <class Fn>
void each_sequence(const Packing& p, Fn&& step) {
  for (size_t s = 0; s < p.slots.size(); ++s) step(p.bounds[s], p.bounds[s + 1], p.slots[s]);
}

}  // namespace statespace::test
