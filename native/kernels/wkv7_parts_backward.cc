#include <cmath>

#include "backend/kernels.h"
#include "kernels/column_sums.h"
#include "ops/wkv7_bonus.h"
#include "ops/wkv7_keys.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Wkv7BonusBackward& op, Context& cx) {
  const int64_t nheads = op.r[1], keys = op.r[2], values = op.v[2];
  ColumnSums sums(cx, op.r[0], nheads * keys);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < nheads; ++h) {
        const int64_t key = h * keys, value = h * values;
        const float *r = op.r.row(t) + key, *k = op.k.row(t) + key, *u = op.u.f32() + key;
        const float *v = op.v.row(t) + value, *dy = op.dy.row(t) + value;
        F products = zero(), errors = zero();
        for (int64_t i = 0; i < keys; i += kLanes) {
          const int m = lanes_of(keys - i);
          products = fma(load(r + i, m) * load(u + i, m), load(k + i, m), products);
        }
        for (int64_t i = 0; i < values; i += kLanes) {
          const int m = lanes_of(values - i);
          errors = fma(load(v + i, m), load(dy + i, m), errors);
        }
        const F p = set(sum(products)), e = set(sum(errors));
        for (int64_t i = 0; i < values && op.dv; i += kLanes) {
          const int m = lanes_of(values - i);
          store(op.dv.row(t) + value + i, p * load(dy + i, m), m);
        }
        for (int64_t i = 0; i < keys; i += kLanes) {
          const int m = lanes_of(keys - i);
          const F x = load(r + i, m), y = load(k + i, m), w = load(u + i, m);
          if (op.dr) store(op.dr.row(t) + key + i, e * w * y, m);
          if (op.dk) store(op.dk.row(t) + key + i, e * x * w, m);
          store(part + key + i, fma(e * x, y, load(part + key + i, m)), m);
        }
      }
  });
  for (int64_t h = 0; h < nheads && op.du; ++h) sums.write(h * keys, keys, op.du.row(h));
}

template <>
void run(const Wkv7KeysBackward& op, Context& cx) {
  const int64_t nheads = op.k[1], n = op.k[2], width = nheads * n;
  ColumnSums sums(cx, op.k[0], 2 * width);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t at = 0; at < width; at += n) {
        const float *k = op.k.row(t) + at, *a = op.a.row(t) + at, *kk = op.kk.f32() + at, *ka = op.ka.f32() + at;
        const float *d1 = op.dy.row(t) + at, *d2 = d1 + width, *d3 = d2 + width;
        F squares = zero(), along = zero();
        for (int64_t i = 0; i < n; i += kLanes) {
          const int m = lanes_of(n - i);
          const F p = load(k + i, m) * load(kk + i, m);
          squares = fma(p, p, squares);
          along = fma(p, load(a + i, m) * load(d3 + i, m) - load(d2 + i, m), along);
        }
        const float length = ::sqrtf(sum(squares));
        const float inverse = 1 / (length > 1e-12f ? length : 1e-12f);
        const F scale = set(inverse), projection = set(length > 1e-12f ? sum(along) * inverse : 0);
        for (int64_t i = 0; i < n; i += kLanes) {
          const int m = lanes_of(n - i);
          const F x = load(k + i, m), rate = load(a + i, m), by = load(kk + i, m), change = load(ka + i, m);
          const F g1 = load(d1 + i, m), g3 = load(d3 + i, m), less = rate - set(1.f);
          const F kappa = x * by * scale;
          const F dp = (rate * g3 - load(d2 + i, m) - kappa * projection) * scale;
          if (op.dk) store(op.dk.row(t) + at + i, fma(g1, fma(less, change, set(1.f)), dp * by), m);
          if (op.da) store(op.da.row(t) + at + i, fma(g1 * x, change, g3 * kappa), m);
          float *dkk = part + at + i, *dka = part + width + at + i;
          store(dkk, fma(dp, x, load(dkk, m)), m);
          store(dka, fma(g1 * less, x, load(dka, m)), m);
        }
      }
  });
  for (int64_t h = 0; h < nheads; ++h) {
    if (op.dkk) sums.write(h * n, n, op.dkk.row(h));
    if (op.dka) sums.write(width + h * n, n, op.dka.row(h));
  }
}

}  // namespace statespace::STATESPACE_ISA
