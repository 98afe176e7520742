#include "program/ranking.h"

#include <algorithm>
#include <cstring>

#include "core/logits.h"

namespace statespace {
namespace {

constexpr int64_t kBuckets = kLogitBuckets;
constexpr float kFarthest = 64;  // keys beyond share the last bucket: their weights are below e^-64
using Eight = int16_t __attribute__((vector_size(16)));

// Whether any of 32 values is `value`.
bool holds(const int16_t* values, int16_t value) {
  Eight any{}, part;
  for (int i = 0; i < 32; i += 8) {
    std::memcpy(&part, values + i, sizeof(part));
    any |= part == value;
  }
  uint64_t halves[2];
  std::memcpy(halves, &any, sizeof(any));
  return (halves[0] | halves[1]) != 0;
}

}  // namespace

void Ranking::rank(const float* keys, const float* weights, int64_t count) {
  keys_ = keys, weights_ = weights, count_ = count;
  bucket_.resize(count);
  counts_.assign(kBuckets, 0);
  masses_.assign(kBuckets, 0);
  sorted_.clear();
  const float farthest = logit_loops().farthest(keys, count, kFarthest);
  int16_t* bucket = bucket_.data();
  logit_loops().buckets(keys, count, farthest > 0 ? float(kBuckets - 1) / farthest : 0, kFarthest, bucket);
  // Weight and number of a bucket side by side, and two of each: neighbours fall into the same bucket, and a sum waits
  // for the one before it.
  constexpr int64_t kApart = 2;
  apart_.assign(kApart * kBuckets, Sum{});
  Sum *even = apart_.data(), *odd = even + kBuckets;
  for (int64_t i = 0; i + 1 < count; i += 2) {
    even[bucket[i]] += Sum{weights[i], 1};
    odd[bucket[i + 1]] += Sum{weights[i + 1], 1};
  }
  if (count % 2) even[bucket[count - 1]] += Sum{weights[count - 1], 1};
  for (int64_t b = 0; b < kBuckets; ++b) {
    const Sum all = even[b] + odd[b];
    masses_[b] = all[0], counts_[b] = int32_t(all[1]);
  }
}

const std::vector<int32_t>& Ranking::members(int64_t number) {
  const int16_t bucket = int16_t(number);
  auto& list = sorted_[number];
  if (!list.empty() || counts_[number] == 0) return list;
  list.reserve(counts_[number]);
  for (int64_t i = 0; i < count_; i += 32) {
    const int64_t end = std::min<int64_t>(count_, i + 32);
    if (end - i == 32 && !holds(&bucket_[i], bucket)) continue;
    for (int64_t j = i; j < end; ++j)
      if (bucket_[j] == bucket) list.push_back(int32_t(j));
  }
  std::sort(list.begin(), list.end(),
            [&](int32_t a, int32_t b) { return keys_[a] != keys_[b] ? keys_[a] < keys_[b] : a < b; });
  return list;
}

double Ranking::mass(int64_t kept) {
  double sum = 0;
  for (int64_t b = 0; b < kBuckets && kept > 0; kept -= counts_[b++]) {
    if (counts_[b] <= kept) {
      sum += masses_[b];
      continue;
    }
    const auto& list = members(b);
    for (int64_t i = 0; i < kept; ++i) sum += weights_[list[i]];
  }
  return sum;
}

int64_t Ranking::reach(double target, int64_t kept) {
  double reached = 0;
  int64_t taken = 0;
  for (int64_t b = 0; b < kBuckets && taken < kept; ++b) {
    if (reached + masses_[b] < target && taken + counts_[b] <= kept) {
      reached += masses_[b];
      taken += counts_[b];
      continue;
    }
    for (int32_t i : members(b)) {
      if (taken >= kept || reached >= target) return std::max<int64_t>(1, taken);
      reached += weights_[i];
      ++taken;
    }
  }
  return std::max<int64_t>(1, taken);
}

int32_t Ranking::find(double left, int64_t kept) {
  int64_t first = -1;  // bucket that holds any
  for (int64_t b = 0; b < kBuckets && kept > 0; kept -= counts_[b++]) {
    if (counts_[b] == 0) continue;
    if (first < 0) first = b;
    if (counts_[b] <= kept && left >= masses_[b]) {
      left -= masses_[b];
      continue;
    }
    const auto& list = members(b);
    for (int64_t i = 0; i < std::min<int64_t>(kept, counts_[b]); ++i) {
      left -= weights_[list[i]];
      if (left < 0) return list[i];
    }
  }
  return first < 0 ? -1 : members(first)[0];
}

std::vector<int32_t> Ranking::first(int64_t kept) {
  std::vector<int32_t> out;
  out.reserve(kept);
  int64_t last = 0, rest = kept;  // the bucket that is cut, and what is kept of it
  while (last < kBuckets && counts_[last] <= rest) rest -= counts_[last++];
  for (int64_t i = 0; i < count_; ++i)
    if (bucket_[i] < last) out.push_back(int32_t(i));
  if (last < kBuckets && rest > 0) {
    const auto& list = members(last);
    out.insert(out.end(), list.begin(), list.begin() + rest);
    std::sort(out.begin(), out.end());
  }
  return out;
}

}  // namespace statespace
