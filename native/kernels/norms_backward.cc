#include <initializer_list>

#include "backend/kernels.h"
#include "kernels/activation_gradients.h"
#include "kernels/column_sums.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"

namespace statespace::STATESPACE_ISA {
namespace {

// One group of n channels of a row; null where something is absent. dx and dz may be dy.
struct RmsGroup {
  const float *x, *z, *dy, *weight, *bias;
  float *dx, *dz, *dweight, *dbias;
};

template <bool kGated, bool kBefore>
void rms_group(const RmsNormBackward& op, const RmsGroup& g, int64_t n) {
  const F offset = set(op.unit_offset ? 1.f : 0.f);
  auto weight = [&](int64_t c, int m) { return g.weight ? load(g.weight + c, m) + offset : set(1.f); };
  // Sigmoids of z are kept from the first pass to the second.
  constexpr int64_t kMost = kGated ? 2048 : 1;
  alignas(64) float sigmoids[kMost];
  const bool keeps = n <= kMost - kLanes;
  F squares = zero(), products = zero();
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    // What was normalised, and the gradient of the norm's output.
    F v = load(g.x + c, m), up = load(g.dy + c, m);
    if constexpr (kGated) {
      const F z = load(g.z + c, m), s = sigmoid(z);
      if (keeps) store(sigmoids + c, s);
      (kBefore ? up : v) = (kBefore ? up : v) * z * s;
    }
    squares = fma(v, v, squares);
    products = fma(up * weight(c, m), v, products);
  }
  const float r = 1 / ::sqrtf(sum(squares) / float(n) + op.eps);
  const F scale = set(r), mean = set(sum(products) * r / float(n));
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    const F dy = load(g.dy + c, m), x = load(g.x + c, m), w = weight(c, m);
    F gate = set(1.f), gradient = zero();
    if constexpr (kGated) {
      const F z = load(g.z + c, m), s = keeps ? load(sigmoids + c) : sigmoid(z);
      gate = z * s;
      gradient = s * fma(z, set(1.f) - s, set(1.f));
    }
    const F unit = (kGated && !kBefore ? x * gate : x) * scale, up = kGated && kBefore ? dy * gate : dy;
    const F dm = scale * fnma(unit, mean, up * w);
    if (g.dx) store(g.dx + c, kGated && !kBefore ? dm * gate : dm, m);
    if (g.dweight) store(g.dweight + c, fma(up, unit, load(g.dweight + c, m)), m);
    if (g.dbias) store(g.dbias + c, load(g.dbias + c, m) + up, m);
    if constexpr (kGated) {
      if (!g.dz) continue;
      const F out = g.bias ? fma(unit, w, load(g.bias + c, m)) : unit * w;
      store(g.dz + c, kBefore ? dy * out * gradient : dm * x * gradient, m);
    }
  }
}

// One group of n channels of a row. The mean is taken off before products are summed: they would cancel. What the mean
// lacks is taken off after, as in the forward.
void layer_group(const float* x, const float* dy, const float* weight, float eps, int64_t n, float* dx, float* dweight,
                 float* dbias) {
  F total = zero();
  for (int64_t c = 0; c < n; c += kLanes) total = total + load(x + c, lanes_of(n - c));
  const F mean = set(sum(total) / float(n));
  auto gradient = [&](int64_t c, int m) {
    const F up = load(dy + c, m);
    return weight ? up * load(weight + c, m) : up;
  };
  F squares = zero(), gradients = zero(), products = zero(), rests = zero();
  const int64_t full = n - n % kLanes;
  for (int64_t c = 0; c < full; c += kLanes) {
    const F d = load(x + c) - mean, g = gradient(c, kLanes);
    squares = fma(d, d, squares);
    rests = rests + d;
    gradients = gradients + g;
    products = fma(g, d, products);
  }
  float square = sum(squares), gradient_sum = sum(gradients), product = sum(products), rest = sum(rests);
  if (full < n) {  // lanes past the end would count as -mean
    alignas(64) float d[kLanes], g[kLanes];
    store(d, load(x + full, int(n - full)) - mean);
    store(g, gradient(full, int(n - full)));
    for (int64_t i = 0; i < n - full; ++i)
      square += d[i] * d[i], rest += d[i], gradient_sum += g[i], product += g[i] * d[i];
  }
  rest /= float(n);
  product -= rest * gradient_sum;
  const float variance = square / float(n) - rest * rest, r = 1 / ::sqrtf((variance < 0 ? 0 : variance) + eps);
  const F scale = set(r), mean_g = set(gradient_sum / float(n)), mean_gx = set(product * r / float(n));
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    const F up = load(dy + c, m), unit = (load(x + c, m) - mean - set(rest)) * scale, g = gradient(c, m);
    if (dweight) store(dweight + c, fma(up, unit, load(dweight + c, m)), m);
    if (dbias) store(dbias + c, load(dbias + c, m) + up, m);
    if (dx) store(dx + c, scale * (g - fma(unit, mean_gx, mean_g)), m);
  }
}

// fn(row, first channel, dweight, dbias) for every group of every row, then the sums are written. `read`: rows that are
// fetched ahead, they may be columns of wider ones.
template <class Op, class Fn>
void each_group(const Op& op, Context& cx, std::initializer_list<const Tensor*> read, Fn&& fn) {
  constexpr int64_t kAhead = 2;
  const int64_t channels = op.x[1], group = op.group_size ? op.group_size : channels;
  ColumnSums sums(cx, op.x[0], 2 * channels);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    float *dweight = op.dweight ? part : nullptr, *dbias = op.dbias ? part + channels : nullptr;
    for (int64_t r = begin; r < end; ++r) {
      for (const Tensor* t : read)
        for (int64_t c = 0; c < channels && *t && r + kAhead < end; c += 16) prefetch(t->row(r + kAhead) + c);
      for (int64_t c = 0; c < channels; c += group)
        fn(r, c, group, dweight ? dweight + c : nullptr, dbias ? dbias + c : nullptr);
    }
  });
  if (op.dweight) sums.write(0, channels, op.dweight.f32());
  if (op.dbias) sums.write(channels, channels, op.dbias.f32());
}

const float* at(const Tensor& t, int64_t r, int64_t c) { return t ? t.row(r) + c : nullptr; }
const float* at(const Tensor& t, int64_t c) { return t ? t.f32() + c : nullptr; }
float* to(const Tensor& t, int64_t r, int64_t c) { return t ? t.row(r) + c : nullptr; }

}  // namespace

template <>
void run(const RmsNormBackward& op, Context& cx) {
  each_group(op, cx, {&op.x, &op.z, &op.dy}, [&](int64_t r, int64_t c, int64_t n, float* dweight, float* dbias) {
    const RmsGroup g{at(op.x, r, c),   at(op.z, r, c), at(op.dy, r, c),
                     at(op.weight, c), at(op.bias, c), to(op.dx, r, c),
                     to(op.dz, r, c),  dweight,        dbias};
    if (!op.z)
      rms_group<false, false>(op, g, n);
    else if (op.norm_before_gate)
      rms_group<true, true>(op, g, n);
    else
      rms_group<true, false>(op, g, n);
  });
}

template <>
void run(const LayerNormBackward& op, Context& cx) {
  each_group(op, cx, {&op.x, &op.dy}, [&](int64_t r, int64_t c, int64_t n, float* dweight, float* dbias) {
    layer_group(op.x.row(r) + c, op.dy.row(r) + c, at(op.weight, c), op.eps, n, to(op.dx, r, c), dweight, dbias);
  });
}

}  // namespace statespace::STATESPACE_ISA
