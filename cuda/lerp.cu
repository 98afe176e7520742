#include "ops/lerp.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Mixed {
  Rows<const float> a, b, w;
  Rows<float> y;

  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
    Vec<W> v = load<W>(a[t], c);
    const Vec<W> to = load<W>(b[t], c), weight = load<W>(w[t], c);
#pragma unroll
    for (int i = 0; i < W; ++i) v.v[i] += (to.v[i] - v.v[i]) * weight.v[i];
    store(y[t], c, v);
  }
};

}  // namespace

template <>
void run(const Lerp& op) {
  launch_pointwise(Mixed{op.a, op.b, Rows<const float>::one_or_many(op.w), op.y}, op.a[0], op.a[1],
                   by_fours(op.a, op.b, op.w, op.y));
}

}  // namespace statespace::cuda
