#include "program/ranking.h"

#include <algorithm>
#include <cmath>

namespace statespace {
namespace {

constexpr int64_t kBuckets = 1024;
constexpr float kLast = kBuckets - 1;
constexpr int kLanes = 16;       // values whose loop becomes vectors
constexpr float kFarthest = 64;  // keys beyond share the last bucket: their weights are below e^-64

}  // namespace

void Ranking::rank(const float* keys, const float* weights, int64_t count) {
  keys_ = keys, weights_ = weights, count_ = count;
  bucket_.resize(count);
  counts_.assign(kBuckets, 0);
  masses_.assign(kBuckets, 0);
  sorted_.clear();
  float far[kLanes] = {}, farthest = 0;
  int64_t whole = 0;
  for (; whole + kLanes <= count; whole += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const float k = keys[whole + l] < kFarthest ? keys[whole + l] : 0;
      far[l] = k > far[l] ? k : far[l];
    }
  for (int64_t i = whole; i < count; ++i) farthest = std::max(farthest, keys[i] < kFarthest ? keys[i] : 0);
  farthest = std::max(farthest, *std::max_element(far, far + kLanes));
  const float scale = farthest > 0 ? float(kBuckets - 1) / farthest : 0;
  const auto bucket_of = [&](float key) {
    const float at = key * scale;
    return int16_t(int32_t(at < kLast && key < kFarthest ? at : kLast));
  };
  int16_t* bucket = bucket_.data();
  for (int64_t i = 0; i < whole; i += kLanes)
    for (int l = 0; l < kLanes; ++l) bucket[i + l] = bucket_of(keys[i + l]);
  for (int64_t i = whole; i < count; ++i) bucket[i] = bucket_of(keys[i]);
  // Weight and number of a bucket side by side, and some of each: neighbours fall into the same bucket, and a sum waits
  // for the one before it.
  constexpr int kApart = 2;
  apart_.assign(kApart * kBuckets, Sum{});
  Sum* sums = apart_.data();
  for (int64_t i = 0; i < count; ++i) sums[bucket[i] * kApart + i % kApart] += Sum{weights[i], 1};
  for (int64_t b = 0; b < kBuckets; ++b) {
    Sum all{};
    for (int a = 0; a < kApart; ++a) all += sums[b * kApart + a];
    masses_[b] = all[0], counts_[b] = int32_t(all[1]);
  }
}

const std::vector<int32_t>& Ranking::members(int64_t number) {
  const int16_t bucket = int16_t(number);
  auto& list = sorted_[number];
  if (!list.empty() || counts_[number] == 0) return list;
  list.reserve(counts_[number]);
  for (int64_t i = 0; i < count_; i += kLanes) {
    const int64_t end = std::min<int64_t>(count_, i + kLanes);
    int any = end - i < kLanes;
    if (!any)
      for (int l = 0; l < kLanes; ++l) any |= bucket_[i + l] == bucket;
    for (int64_t j = i; any && j < end; ++j)
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
