#include "ops/wkv7_keys.h"

#include <cmath>

#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

// One head of one token; n keys.
void keys(const float* k, const float* a, const float* kk, const float* ka, int64_t n, float* key, float* remove,
          float* add) {
  F squares = zero();
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = lanes_of(n - i);
    const F v = load(k + i, m) * load(kk + i, m);
    squares = fma(v, v, squares);
  }
  const float length = ::sqrtf(sum(squares));
  const F scale = set(1 / (length > 1e-12f ? length : 1e-12f));
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = lanes_of(n - i);
    const F x = load(k + i, m), rate = load(a + i, m);
    const F kappa = x * load(kk + i, m) * scale;
    store(key + i, fma((rate - set(1.f)) * x, load(ka + i, m), x), m);
    store(remove + i, zero() - kappa, m);
    store(add + i, kappa * rate, m);
  }
}

}  // namespace

template <>
void run(const Wkv7Keys& op, Context& cx) {
  const int64_t nheads = op.k[1], n = op.k[2], width = nheads * n;
  for_row_blocks(cx, op.k[0], 3 * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t at = 0; at < width; at += n) {
        float* y = op.y.row(t) + at;
        keys(op.k.row(t) + at, op.a.row(t) + at, op.kk.f32() + at, op.ka.f32() + at, n, y, y + width, y + 2 * width);
      }
  });
}

}  // namespace statespace::STATESPACE_ISA
