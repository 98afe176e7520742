#include "ops/join_streams.h"
#include "ops/mix_streams.h"
#include "ops/sinkhorn.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Mixed {
  Rows<const float> x, mix, out, gain;
  Rows<float> y;
  int streams;
  int64_t channels;

  template <int W>
  __device__ void at(int64_t t, int64_t i) const {
    const Vec<W> added = load<W>(out[t], i);
    for (int c = 0; c < streams; ++c) {
      Vec<W> v = mix ? Vec<W>{} : load<W>(x[t], c * channels + i);
      for (int j = 0; mix && j < streams; ++j) {
        const Vec<W> from = load<W>(x[t], j * channels + i);
        const float weight = mix[t][j * streams + c];
#pragma unroll
        for (int e = 0; e < W; ++e) v.v[e] += weight * from.v[e];
      }
      const float g = gain[t][c];
#pragma unroll
      for (int e = 0; e < W; ++e) v.v[e] += g * added.v[e];
      store(y[t], c * channels + i, v);
    }
  }
};

struct Joined {
  Rows<const float> x, weights;
  Rows<float> y;
  int streams;
  int64_t channels;

  template <int W>
  __device__ void at(int64_t t, int64_t i) const {
    Vec<W> v{};
    for (int c = 0; c < streams; ++c) {
      const Vec<W> from = load<W>(x[t], c * channels + i);
      const float weight = weights[t][c];
#pragma unroll
      for (int e = 0; e < W; ++e) v.v[e] += weight * from.v[e];
    }
    store(y[t], i, v);
  }
};

constexpr int kThreads = 64, kMaxStreams = 64;

struct SinkhornArgs {
  Rows<const float> x;
  Rows<float> y;
  int64_t tokens;
  int n, iterations;
  float eps;
};

// A token a block, a row or column a thread.
__global__ void __launch_bounds__(kThreads) balance(SinkhornArgs a) {
  struct Shared {
    float m[kMaxStreams * kMaxStreams];
  };
  Shared& s = shared<Shared>();
  const int n = a.n, i = int(threadIdx.x);
  const int64_t t = blockIdx.x;
  const bool active = i < n;
  if (active) {
    const global<const float> x = a.x[t] + i * n;
    float top = x[0], total = 0;
    for (int c = 1; c < n; ++c) top = fmaxf(top, x[c]);
    for (int c = 0; c < n; ++c) total += s.m[i * n + c] = expf(x[c] - top);
    for (int c = 0; c < n; ++c) s.m[i * n + c] = s.m[i * n + c] / total + a.eps;
  }
  for (int k = 0; k < 2 * a.iterations - 1; ++k) {  // columns, then rows and columns
    barrier();
    const int next = k % 2 ? n : 1, stride = k % 2 ? 1 : n;
    float total = a.eps;
    for (int j = 0; active && j < n; ++j) total += s.m[i * next + j * stride];
    for (int j = 0; active && j < n; ++j) s.m[i * next + j * stride] /= total;
  }
  barrier();
  for (int e = i; e < n * n; e += kThreads) a.y[t][e] = s.m[e];
}

}  // namespace

template <>
void run(const MixStreams& op) {
  const int64_t channels = op.x[2];
  launch_pointwise(Mixed{op.x, op.mix, op.out, op.gain, op.y, int(op.x[1]), channels}, op.x[0], channels,
                   channels % 4 == 0 && by_fours(op.x, op.out, op.y));
}

template <>
void run(const JoinStreams& op) {
  const int64_t channels = op.x[2];
  launch_pointwise(Joined{op.x, op.weights, op.y, int(op.x[1]), channels}, op.x[0], channels,
                   channels % 4 == 0 && by_fours(op.x, op.y));
}

template <>
void run(const Sinkhorn& op) {
  if (op.x[0] == 0) return;
  launch(balance, {op.x[0]}, kThreads, SinkhornArgs{op.x, op.y, op.x[0], int(op.x[1]), int(op.iterations), op.eps});
}

}  // namespace statespace::cuda
