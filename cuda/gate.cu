#include "elementary.h"
#include "ops/gate.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Gated {
  Rows<const float> x, gate;
  Rows<float> y;
  Activation which;
  float limit;

  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
    Vec<W> v = load<W>(x[t], c);
    const Vec<W> g = load<W>(gate[t], c);
#pragma unroll
    for (int i = 0; i < W; ++i)
      v.v[i] = limit > 0 ? activate(which, fminf(g.v[i], limit)) * fmaxf(fminf(v.v[i], limit), -limit)
                         : activate(which, g.v[i]) * v.v[i];
    store(y[t], c, v);
  }
};

}  // namespace

template <>
void run(const Gate& op) {
  launch_pointwise(Gated{op.x, op.gate, op.y, Activation(op.activation), op.limit}, op.x[0], op.x[1],
                   by_fours(op.x, op.gate, op.y));
}

}  // namespace statespace::cuda
