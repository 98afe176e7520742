#pragma once
// Numbered things by rank, the smallest key first (of equals the first), without sorting them: keys fall into buckets,
// and only a bucket that a question falls into is sorted. Each thing has a weight.
#include <cstdint>
#include <map>
#include <vector>

namespace statespace {

class Ranking {
 public:
  // Keys from 0 on, +inf among them. The arrays stay the caller's. A ranking is used again and again: fresh memory for
  // a vocabulary costs more than ranking it.
  void rank(const float* keys, const float* weights, int64_t count);

  // The weight of the first `kept`.
  double mass(int64_t kept);
  // The fewest of the first `kept` whose weights reach `target`; at least one.
  int64_t reach(double target, int64_t kept);
  // Where `left` falls when the first `kept` are laid out by their weights; the first of all where rounding leaves
  // none.
  int32_t find(double left, int64_t kept);
  // The first `kept`, in the order of their numbers.
  std::vector<int32_t> first(int64_t kept);

 private:
  const std::vector<int32_t>& members(int64_t bucket);  // sorted
  const float *keys_ = nullptr, *weights_ = nullptr;
  int64_t count_ = 0;
  std::vector<int16_t> bucket_;  // of each
  std::vector<int32_t> counts_;  // by bucket
  std::vector<double> masses_;
  using Sum = double __attribute__((vector_size(16)));  // weight, number
  std::vector<Sum> apart_;
  std::map<int64_t, std::vector<int32_t>> sorted_;
};

}  // namespace statespace
