#include <cmath>

#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/rows.h"
#include "ops/join_streams.h"
#include "ops/mix_streams.h"
#include "ops/sinkhorn.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const MixStreams& op, Context& cx) {
  const int64_t streams = op.x[1], channels = op.x[2];
  for_row_blocks(cx, op.x[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *x = op.x.row(t), *out = op.out.row(t), *gain = op.gain.row(t);
      const float* mix = op.mix ? op.mix.row(t) : nullptr;
      float* y = op.y.row(t);
      for (int64_t i = 0; i < channels; i += kLanes) {
        const int m = lanes_of(channels - i);
        const F added = load(out + i, m);
        for (int64_t c = 0; c < streams; ++c) {
          F v = mix ? zero() : load(x + c * channels + i, m);
          for (int64_t j = 0; mix && j < streams; ++j)
            v = fma(set(mix[j * streams + c]), load(x + j * channels + i, m), v);
          store(y + c * channels + i, fma(set(gain[c]), added, v), m);
        }
      }
    }
  });
}

template <>
void run(const JoinStreams& op, Context& cx) {
  const int64_t streams = op.x[1], channels = op.x[2];
  for_row_blocks(cx, op.x[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *x = op.x.row(t), *weights = op.weights.row(t);
      for (int64_t i = 0; i < channels; i += kLanes) {
        const int m = lanes_of(channels - i);
        F v = zero();
        for (int64_t c = 0; c < streams; ++c) v = fma(set(weights[c]), load(x + c * channels + i, m), v);
        store(op.y.row(t) + i, v, m);
      }
    }
  });
}

template <>
void run(const Sinkhorn& op, Context& cx) {
  const int64_t n = op.x[1];
  for_row_blocks(cx, op.x[0], n * n * op.iterations, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = op.x.row(t);
      float* y = op.y.row(t);
      // Divides what `stride` leads along by its sum + eps, for each of n beginnings.
      auto divide = [&](int64_t next, int64_t stride) {
        for (int64_t i = 0; i < n; ++i) {
          float total = op.eps;
          for (int64_t j = 0; j < n; ++j) total += y[i * next + j * stride];
          for (int64_t j = 0; j < n; ++j) y[i * next + j * stride] /= total;
        }
      };
      for (int64_t r = 0; r < n; ++r) {
        float top = x[r * n], total = 0;
        for (int64_t c = 1; c < n; ++c) top = x[r * n + c] > top ? x[r * n + c] : top;
        for (int64_t c = 0; c < n; ++c) total += y[r * n + c] = ::expf(x[r * n + c] - top);
        for (int64_t c = 0; c < n; ++c) y[r * n + c] = y[r * n + c] / total + op.eps;
      }
      divide(1, n);
      for (int64_t k = 1; k < op.iterations; ++k) divide(n, 1), divide(1, n);
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
