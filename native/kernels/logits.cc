#include "core/logits.h"

#include "backend/cpu_tables.h"
#include "isa/math.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr float kFarthest = 87;          // e^-87 is about the least float that keeps its bits
constexpr int64_t kBlock = 64 * kLanes;  // summed in floats

// Calls fn(i, n...) for vectors of [begin, end), the last one with its lanes.
template <class Fn>
void vectors(int64_t begin, int64_t end, Fn&& fn) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) fn(i);
  if (i < end) fn(i, int(end - i));
}

template <class Fn>
double summed(int64_t count, Fn&& fn) {
  double total = 0;
  for (int64_t i = 0; i < count; i += kBlock) {
    F part = zero();
    vectors(i, i + kBlock < count ? i + kBlock : count, [&](int64_t j, auto... n) { part = part + fn(j, n...); });
    total += sum(part);
  }
  return total;
}

// The higher one, `top` where x is no number: NEON's max would be NaN.
F higher(F x, F top) { return select(less(top, x), x, top); }

float highest(const float* x, int64_t count) {
  F top[4];
  for (F& t : top) t = set(-INFINITY);
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) top[k] = higher(load(x + i + k * kLanes), top[k]);
  }
  float most = max_of(max(max(top[0], top[1]), max(top[2], top[3])));
  for (; i < count; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

void maxima(const float* x, int64_t count, int64_t block, float* to) {
  for (int64_t i = 0; i < count; i += block) {
    const int64_t end = count - i < block ? count : i + block;
    F top = set(-INFINITY);
    int64_t j = i;
    for (; j + kLanes <= end; j += kLanes) top = higher(load(x + j), top);
    float most = max_of(top);
    for (; j < end; ++j) most = x[j] > most ? x[j] : most;
    *to++ = most;
  }
}

double weigh(const float* x, int64_t count, float top, float factor, float least, float* weights, float* keys) {
  const F from = set(top), scale = set(factor), far = set(kFarthest), floor_ = set(least), infinity = set(INFINITY);
  return summed(count, [&](int64_t i, auto... n) {
    const F d = from - load(x + i, n...);
    const F key = select(less(set(-1.f), d), d * scale, infinity);
    F w = exp(zero() - min(key, far));
    w = select(less(w, floor_), zero(), select(less(key, far), w, zero()));
    if (keys) store(keys + i, key, n...);
    store(weights + i, w, n...);
    if constexpr (sizeof...(n) > 0) w = load(weights + i, n...);  // lanes past the end are none
    return w;
  });
}

double weighted(const float* weights, const float* keys, int64_t count) {
  return summed(count, [&](int64_t i, auto... n) {
    const F w = load(weights + i, n...);
    return select(less(zero(), w), w * load(keys + i, n...), zero());
  });
}

void distances(const float* weights, const float* keys, int64_t count, float middle, float* to) {
  vectors(0, count, [&](int64_t i, auto... n) {
    const F d = abs(load(keys + i, n...) - set(middle));
    store(to + i, select(less(zero(), load(weights + i, n...)), d, set(INFINITY)), n...);
  });
}

float farthest(const float* keys, int64_t count, float limit) {
  const F end = set(limit);
  F most[4];
  for (F& m : most) m = zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= count; i += 4 * kLanes) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const F key = load(keys + i + k * kLanes);
      most[k] = max(select(less(key, end), key, zero()), most[k]);
    }
  }
  float far = max_of(max(max(most[0], most[1]), max(most[2], most[3])));
  for (; i < count; ++i) far = keys[i] < limit && keys[i] > far ? keys[i] : far;
  return far;
}

// Whole numbers below 1024 times 2^-24 are halves whose bits are that number.
static_assert(kLogitBuckets <= 1024);
void buckets(const float* keys, int64_t count, float scale, float limit, int16_t* to) {
  const F by = set(scale), end = set(limit), last = set(kLogitBuckets - 1), unit = set(0x1p-24f);
  auto* halves = reinterpret_cast<f16_t*>(to);
  vectors(0, count, [&](int64_t i, auto... n) {
    const F key = load(keys + i, n...);
    store(halves + i, floor(select(less(key, end), min(key * by, last), last)) * unit, n...);
  });
}

}  // namespace

LogitLoops logit_loops() { return {highest, maxima, weigh, weighted, distances, farthest, buckets}; }

}  // namespace statespace::STATESPACE_ISA
