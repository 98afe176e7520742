#include "ops/retention_scale.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Scaled {
  Rows<const float> x;
  Rows<float> y;
  global<const float> log_decay;
  global<const int32_t> positions;
  int64_t values;

  // 1 / sqrt(γ^0 + … + γ^p), in f64, as 1 - γ is 1e-4 and less in the slow heads.
  __device__ float scale(int64_t t, int64_t head) const {
    const double log_gamma = log_decay[head], count = double(positions ? positions[t] : t) + 1;
    return float(1 / sqrt(log_gamma == 0 ? count : expm1(log_gamma * count) / expm1(log_gamma)));
  }
  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
    Vec<W> v = load<W>(x[t], c);
    const float s = scale(t, c / values);
#pragma unroll
    for (int i = 0; i < W; ++i) v.v[i] *= s;
    store(y[t], c, v);
  }
};

}  // namespace

template <>
void run(const RetentionScale& op) {
  const int64_t values = op.x[2];
  const Scaled scaled{op.x, op.y, global_data<const float>(op.log_decay), global_data<const int32_t>(op.positions),
                      values};
  launch_pointwise(scaled, op.x[0], op.x[1] * values, values % 4 == 0 && by_fours(op.x, op.y));
}

}  // namespace statespace::cuda
