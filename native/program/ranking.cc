#include "program/ranking.h"

#include <algorithm>
#include <cmath>

namespace statespace {
namespace {

constexpr int64_t kBuckets = 1024;
constexpr float kFarthest = 64;  // keys beyond share the last bucket: their weights are below e^-64

}  // namespace

Ranking::Ranking(const float* keys, const float* weights, int64_t count)
    : keys_(keys), weights_(weights), count_(count), bucket_(count), counts_(kBuckets), masses_(kBuckets) {
  float farthest = 0;
  for (int64_t i = 0; i < count; ++i) {
    const float k = keys[i] < kFarthest ? keys[i] : 0;
    farthest = k > farthest ? k : farthest;
  }
  const float scale = farthest > 0 ? float(kBuckets - 1) / farthest : 0;
  for (int64_t i = 0; i < count; ++i) {
    const float at = keys[i] * scale;
    bucket_[i] = uint16_t(at < float(kBuckets - 1) ? int32_t(at) : kBuckets - 1);
    if (!(keys[i] < kFarthest)) bucket_[i] = kBuckets - 1;
  }
  // Four sums a bucket: neighbours fall into the same ones, and a sum waits for the one before it.
  constexpr int kApart = 4;
  std::vector<int32_t> counts(kApart * kBuckets);
  std::vector<double> masses(kApart * kBuckets);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t at = bucket_[i] * kApart + i % kApart;
    ++counts[at];
    masses[at] += weights[i];
  }
  for (int64_t b = 0; b < kBuckets; ++b)
    for (int a = 0; a < kApart; ++a) {
      counts_[b] += counts[b * kApart + a];
      masses_[b] += masses[b * kApart + a];
    }
}

const std::vector<int32_t>& Ranking::members(int64_t bucket) {
  auto& list = sorted_[bucket];
  if (!list.empty() || counts_[bucket] == 0) return list;
  list.reserve(counts_[bucket]);
  for (int64_t i = 0; i < count_; ++i)
    if (bucket_[i] == bucket) list.push_back(int32_t(i));
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
  int32_t best = -1;
  for (int64_t b = 0; b < kBuckets && kept > 0; kept -= counts_[b++]) {
    if (counts_[b] == 0) continue;
    if (best < 0) best = members(b)[0];
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
  return best;
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
