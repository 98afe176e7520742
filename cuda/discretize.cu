#include "ops/discretize.h"
#include "pointwise.h"
#include "rate.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

enum class Method { zoh, zoh_euler, bilinear };

// Rows are (token, channel), columns states.
struct Discretized {
  Rows<const float> delta, A, B;
  Rows<float> Abar, Bbar;
  int64_t d_inner, d_state;
  bool constant_B;
  Method method;

  template <int W>
  __device__ void at(int64_t row, int64_t n) const {
    const int64_t t = row / d_inner, d = row % d_inner;
    const float dt = delta[t][d];
    Vec<W> pole = load<W>(A[d], n), input = load<W>(constant_B ? B[d] : B[t], n);
#pragma unroll
    for (int i = 0; i < W; ++i) {
      // As far as floats reach, of A = -∞ as well: what is wanted then are the limits.
      pole.v[i] = finite_rate(pole.v[i]);
      const float a = finite_rate(dt * pole.v[i]);
      switch (method) {
        case Method::zoh:
          input.v[i] *= pole.v[i] == 0 ? dt : expm1f(a) / pole.v[i];
          pole.v[i] = expf(a);
          break;
        case Method::zoh_euler:
          input.v[i] *= dt;
          pole.v[i] = expf(a);
          break;
        case Method::bilinear:
          input.v[i] *= dt / (1 - 0.5f * a);
          pole.v[i] = (1 + 0.5f * a) / (1 - 0.5f * a);
          break;
      }
    }
    store(Abar[t], d * d_state + n, pole);
    store(Bbar[t], d * d_state + n, input);
  }
};

}  // namespace

template <>
void run(const Discretize& op) {
  const bool fours = op.A[1] % 4 == 0 && by_fours(op.A, op.B, op.Abar, op.Bbar);
  launch_pointwise(
      Discretized{op.delta, op.A, op.B, op.Abar, op.Bbar, op.A[0], op.A[1], op.B.rank == 2, Method(op.method)},
      op.delta[0] * op.A[0], op.A[1], fours);
}

}  // namespace statespace::cuda
