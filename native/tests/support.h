#pragma once
// What the C++ tests share: tensors over vectors, deterministic random values, every usable backend.
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/check.h"

namespace statespace::test {

inline Tensor view(std::vector<float>& data, std::initializer_list<int64_t> shape) {
  static float none;  // an empty tensor is given, not missing
  Tensor t;
  t.data = data.empty() ? &none : data.data();
  for (int64_t n : shape) t.shape[t.rank++] = n;
  t.row_stride = t.row_size();
  return t;
}

inline Tensor view(std::vector<int32_t>& data) {
  Tensor t;
  t.data = data.data();
  t.rank = 1;
  t.shape[0] = static_cast<int64_t>(data.size());
  t.row_stride = 1;
  t.dtype = DType::i32;
  return t;
}

// Uniform in [low, high), the same sequence for the same seed.
inline std::vector<float> uniform(size_t n, uint64_t seed, float low = -1, float high = 1) {
  std::vector<float> v(n);
  uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;
  for (auto& x : v) {
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    x = low + (high - low) * float(s >> 40) * 0x1p-24f;
  }
  return v;
}

template <class Op>
void run(const Backend& backend, Op& op, ThreadPool& pool = ThreadPool::global()) {
  check(op);
  Scratch scratch;
  Context cx{pool, scratch};
  backend.run[op_id<Op>()](&op, cx);
}

// Calls fn(backend) for every CPU backend of this machine; failures name it.
template <class Fn>
void each_backend(Fn&& fn) {
  int count;
  const char* const* names = available_cpu_backends(&count);
  for (int i = 0; i < count; ++i) {
    const std::string backend = names[i];
    CAPTURE(backend);
    fn(*cpu_backend(names[i]));
  }
}

inline double max_error(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = std::fabs(double(a[i]) - b[i]);
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  return worst;
}

// |a - b| / |b| in the Euclidean norm; infinite where a has a NaN.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    size += double(b[i]) * b[i];
  }
  if (std::isnan(difference)) return INFINITY;
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

}  // namespace statespace::test
