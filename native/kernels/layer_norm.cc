#include "ops/layer_norm.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/streamed.h"

namespace statespace::STATESPACE_ISA {
namespace {

// The first `n` lanes of x, 0 behind.
F only(F x, int n) {
  alignas(64) float lanes[kLanes];
  store(lanes, x);
  return load(lanes, n);
}

struct Moments {
  float mean, rest, variance;  // the mean is the sum of the first two
};

// About the first value, in one pass: of n values the mean is at most √n standard deviations away from one of them, so
// that few lose no digits by it.
Moments few_moments(const float* x, int64_t n) {
  F squares = zero(), sums = zero();
  const F first = set(x[0]);
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    F d = load(x + c, m) - first;
    if (m < kLanes) d = only(d, m);
    squares = fma(d, d, squares);
    sums = sums + d;
  }
  const float rest = sum(sums) / float(n);
  return {x[0], rest, sum(squares) / float(n) - rest * rest};
}

// The variance is taken about the mean: E[x²] - E[x]² would cancel. A sum of n values is off by up to n/kLanes
// roundings of its size, which are more than all of a small variance: what the mean lacks is summed with the squares.
Moments moments(const float* x, int64_t n) {
  const int64_t pairs = n - n % (2 * kLanes);
  F total = zero(), other = zero();  // two sums each: one waits for its last addition
  for (int64_t c = 0; c < pairs; c += 2 * kLanes) total = total + load(x + c), other = other + load(x + c + kLanes);
  for (int64_t c = pairs; c < n; c += kLanes) total = total + load(x + c, lanes_of(n - c));
  const float mean = sum(total + other) / float(n);

  F squares = zero(), rests = zero();
  const int64_t full = n - n % kLanes;
  for (int64_t c = 0; c < full; c += kLanes) {
    const F d = load(x + c) - set(mean);
    squares = fma(d, d, squares);
    rests = rests + d;
  }
  float square = sum(squares), rest = sum(rests);
  for (int64_t c = full; c < n; ++c) square += (x[c] - mean) * (x[c] - mean), rest += x[c] - mean;
  rest /= float(n);
  return {mean, rest, square / float(n) - rest * rest};
}

constexpr int64_t kFew = 128;

// One group of n channels; y may be x.
void norm_group(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* y, bool streamed) {
  const auto [mean, rest, variance] = n <= kFew ? few_moments(x, n) : moments(x, n);
  const F scale = set(1 / ::sqrtf((variance < 0 ? 0 : variance) + eps));

  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    F v = (load(x + c, m) - set(mean) - set(rest)) * scale;
    if (weight) v = v * load(weight + c, m);
    if (bias) v = v + load(bias + c, m);
    put(y + c, v, m, streamed);
  }
}

}  // namespace

template <>
void run(const LayerNorm& op, Context& cx) {
  const int64_t channels = op.x[1], group = op.group_size ? op.group_size : channels;
  const bool streamed = streams_result(op.y, {&op.x}, group);
  for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < channels; c += group)
        norm_group(op.x.row(r) + c, op.weight ? op.weight.f32() + c : nullptr, op.bias ? op.bias.f32() + c : nullptr,
                   op.eps, group, op.y.row(r) + c, streamed);
    if (streamed) end_streams();
  });
}

}  // namespace statespace::STATESPACE_ISA
