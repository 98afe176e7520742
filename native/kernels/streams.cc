#include <cmath>

#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/head_state.h"
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
void run(const MixStreamsBackward& op, Context& cx) {
  const int64_t streams = op.x[1], channels = op.x[2];
  for_row_blocks(cx, op.x[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *x = op.x.row(t), *dy = op.dy.row(t), *gain = op.gain.row(t);
      const float* mix = op.mix ? op.mix.row(t) : nullptr;
      for (int64_t i = 0; i < channels; i += kLanes) {
        const int m = lanes_of(channels - i);
        F dout = zero();
        for (int64_t c = 0; c < streams; ++c) dout = fma(set(gain[c]), load(dy + c * channels + i, m), dout);
        if (op.dout) store(op.dout.row(t) + i, dout, m);
        for (int64_t j = 0; op.dx && j < streams; ++j) {
          F dx = mix ? zero() : load(dy + j * channels + i, m);
          for (int64_t c = 0; mix && c < streams; ++c)
            dx = fma(set(mix[j * streams + c]), load(dy + c * channels + i, m), dx);
          store(op.dx.row(t) + j * channels + i, dx, m);
        }
      }
      for (int64_t c = 0; c < streams; ++c) {
        if (op.dgain) op.dgain.row(t)[c] = dot(op.out.row(t), dy + c * channels, channels);
        for (int64_t j = 0; op.dmix && j < streams; ++j)
          op.dmix.row(t)[j * streams + c] = dot(x + j * channels, dy + c * channels, channels);
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
void run(const JoinStreamsBackward& op, Context& cx) {
  const int64_t streams = op.x[1], channels = op.x[2];
  for_row_blocks(cx, op.x[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *x = op.x.row(t), *weights = op.weights.row(t), *dy = op.dy.row(t);
      for (int64_t c = 0; c < streams; ++c) {
        if (op.dweights) op.dweights.row(t)[c] = dot(x + c * channels, dy, channels);
        for (int64_t i = 0; op.dx && i < channels; i += kLanes) {
          const int m = lanes_of(channels - i);
          store(op.dx.row(t) + c * channels + i, set(weights[c]) * load(dy + i, m), m);
        }
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

// In f64: the matrices between come from the last one and its sums, and many divisions lie between them.
template <>
void run(const SinkhornBackward& op, Context& cx) {
  if (!op.dx) return;
  const int64_t n = op.x[1], divisions = 2 * op.iterations - 1;
  for_row_blocks(cx, op.x[0], n * n * divisions, [&](int64_t begin, int64_t end, int worker) {
    double* y = cx.local<double>(worker, 2 * n * n + divisions * n);  // (row, column)
    double *dy = y + n * n, *sums = dy + n * n;                       // (row, column), (division, row or column)
    for (int64_t t = begin; t < end; ++t) {
      const float* x = op.x.row(t);
      for (int64_t i = 0; i < n * n; ++i) dy[i] = op.dy.row(t)[i];
      for (int64_t r = 0; r < n; ++r) {
        double top = x[r * n], total = 0;
        for (int64_t c = 1; c < n; ++c) top = x[r * n + c] > top ? x[r * n + c] : top;
        for (int64_t c = 0; c < n; ++c) total += y[r * n + c] = std::exp(x[r * n + c] - top);
        for (int64_t c = 0; c < n; ++c) y[r * n + c] = y[r * n + c] / total + op.eps;
      }
      // The j-th value of the i-th sum: columns first, then rows, by turns.
      const auto place = [&](int64_t division, int64_t i, int64_t j) {
        return division % 2 == 0 ? i + j * n : i * n + j;
      };
      for (int64_t k = 0; k < divisions; ++k)
        for (int64_t i = 0; i < n; ++i) {
          double total = op.eps;
          for (int64_t j = 0; j < n; ++j) total += y[place(k, i, j)];
          for (int64_t j = 0; j < n; ++j) y[place(k, i, j)] /= total;
          sums[k * n + i] = total;
        }
      for (int64_t k = divisions - 1; k >= 0; --k)
        for (int64_t i = 0; i < n; ++i) {
          double through = 0;
          for (int64_t j = 0; j < n; ++j) through += dy[place(k, i, j)] * y[place(k, i, j)];
          for (int64_t j = 0; j < n; ++j) {
            const int64_t at = place(k, i, j);
            dy[at] = (dy[at] - through) / sums[k * n + i];
            y[at] *= sums[k * n + i];
          }
        }
      for (int64_t r = 0; r < n; ++r) {
        double through = 0;
        for (int64_t c = 0; c < n; ++c) through += dy[r * n + c] * (y[r * n + c] - op.eps);
        for (int64_t c = 0; c < n; ++c)
          op.dx.row(t)[r * n + c] = float((y[r * n + c] - op.eps) * (dy[r * n + c] - through));
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
