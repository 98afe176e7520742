#include "ops/affine.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Scaled {
  Rows<const float> x, scale, shift;
  Rows<float> y;

  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
    Vec<W> v = load<W>(x[t], c);
    const Vec<W> factor = load<W>(scale[t], c);
    const Vec<W> more = shift ? load<W>(shift[t], c) : Vec<W>{};
#pragma unroll
    for (int i = 0; i < W; ++i) v.v[i] = factor.v[i] * v.v[i] + more.v[i];
    store(y[t], c, v);
  }
};

}  // namespace

template <>
void run(const Affine& op) {
  launch_pointwise(
      Scaled{op.x, Rows<const float>::one_or_many(op.scale), Rows<const float>::one_or_many(op.shift), op.y}, op.x[0],
      op.x[1], by_fours(op.x, op.scale, op.shift, op.y));
}

}  // namespace statespace::cuda
