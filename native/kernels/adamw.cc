#include "core/adamw.h"

#include <cstring>

#include "backend/cpu_tables.h"
#include "isa/simd.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

void adamw(const AdamWStep& s, const float* gradient, int64_t count, float* w, float* m, float* v) {
  const F clip = set(s.clip), beta1 = set(s.beta1), beta2 = set(s.beta2), rest1 = set(s.rest1), rest2 = set(s.rest2);
  const F keep = set(s.keep), rate = set(s.rate), root = set(s.root), eps = set(s.eps);
  for (int64_t i = 0; i < count; i += kLanes) {
    const int n = lanes_of(count - i);
    const F g = clip * load(gradient + i, n), mean = fma(beta1, load(m + i, n), rest1 * g);
    const F square = fma(beta2, load(v + i, n), rest2 * g * g);
    store(m + i, mean, n);
    store(v + i, square, n);
    store(w + i, fnma(rate, mean / fma(sqrt(square), root, eps), keep * load(w + i, n)), n);
  }
}

constexpr int kSums = 8;
using Floats = float __attribute__((vector_size(kSums * sizeof(float))));
using Doubles = double __attribute__((vector_size(kSums * sizeof(double))));

double squares(const float* gradient, int64_t count) {
  Doubles sums = {};
  int64_t i = 0;
  for (; i + kSums <= count; i += kSums) {
    Floats g;
    std::memcpy(&g, gradient + i, sizeof(g));
    const Doubles wide = __builtin_convertvector(g, Doubles);
    sums += wide * wide;
  }
  for (; i < count; ++i) sums[0] += double(gradient[i]) * gradient[i];
  double total = 0;
  for (int l = 0; l < kSums; ++l) total += sums[l];
  return total;
}

}  // namespace

Optimizer optimizer() { return {adamw, squares}; }

}  // namespace statespace::STATESPACE_ISA
