// Gradients of the ops that treat every value by itself: gate, activate, add.
#include "gradients.h"
#include "ops/activate.h"
#include "ops/add.h"
#include "ops/gate.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct GateGradient {
  Rows<const float> x, gate, dy;
  Rows<float> dx, dgate;
  Activation which;
  float limit;
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t c = first + i;
      const float up = dy[t][c], g = gate[t][c], v = x[t][c], high = limit > 0 ? limit : INFINITY;
      const float cut_gate = fminf(g, high), cut = fmaxf(fminf(v, high), -high);
      if (dx) dx[t][c] = fabsf(v) > high ? 0 : up * activate(which, cut_gate);
      if (dgate) dgate[t][c] = g > high ? 0 : up * cut * activation_gradient(which, cut_gate);
    }
  }
};

struct ActivateGradient {
  Rows<const float> x, dy;
  Rows<float> dx;
  Activation which;
  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
#pragma unroll
    for (int i = 0; i < W; ++i) dx[t][c + i] = dy[t][c + i] * activation_gradient(which, x[t][c + i]);
  }
};

struct Scaled {
  Rows<const float> from;
  Rows<float> to;
  float factor;
  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
#pragma unroll
    for (int i = 0; i < W; ++i) to[t][c + i] = factor * from[t][c + i];
  }
};
struct ScaledSum {
  Rows<const float> from;
  float factor;
  __device__ float operator()(int64_t t, int64_t c) const { return factor * from[t][c]; }
};

}  // namespace

template <>
void run(const GateBackward& op) {
  launch_pointwise(GateGradient{op.x, op.gate, op.dy, op.dx, op.dgate, Activation(op.activation), op.limit}, op.x[0],
                   op.x[1]);
}

template <>
void run(const ActivateBackward& op) {
  if (op.dx) launch_pointwise(ActivateGradient{op.x, op.dy, op.dx, Activation(op.activation)}, op.x[0], op.x[1]);
}

template <>
void run(const AddBackward& op) {
  // A db that is one row comes first: da may be dy.
  if (op.db && op.db.rank == 1) sum_columns(ScaledSum{op.dy, op.beta}, op.dy[0], op.db);
  const Rows<const float> dy(op.dy);
  if (op.db && op.db.rank == 2 && op.db.data != op.dy.data)
    launch_pointwise(Scaled{dy, op.db, op.beta}, op.dy[0], op.dy[1]);
  if (op.da) launch_pointwise(Scaled{dy, op.da, op.alpha}, op.dy[0], op.dy[1]);
  if (op.db && op.db.rank == 2 && op.db.data == op.dy.data)
    launch_pointwise(Scaled{dy, op.db, op.beta}, op.dy[0], op.dy[1]);
}

}  // namespace statespace::cuda
