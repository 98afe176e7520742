#pragma once
// What SSD's kernels share: the op as kernels see it, the times of a tile of tokens, and the end of a token's output.
#include "elementary.h"
#include "ops/ssd.h"
#include "product.h"
#include "rate.h"
#include "views.h"

namespace statespace::cuda {

struct SsdArgs {
  FloatRows x, B, C;
  Rows<const float> dt, z;
  global<const float> A, D, dt_bias;
  bool D_per_channel, softplus;
  float dt_min, dt_max;
  Rows<float> y, state;
  Sequences sequences;
  int nheads, headdim, ngroups, d_state;
  int chunk = 0;  // tokens, at most a tile

  Pieces pieces;
  global<float> piece_state = nullptr;  // (pieces, nheads, headdim, d_state): after a piece from zero, then before it
  global<float> piece_decay = nullptr;  // (pieces, nheads)
  global<float> times = nullptr;  // (3, nheads, tokens): dt and the sums of dt·A of whole sequences, high and low

  explicit SsdArgs(const Ssd& op)
      : x(op.x),
        B(op.B),
        C(op.C),
        dt(op.dt),
        z(op.z),
        A(global_data<const float>(op.A)),
        D(global_data<const float>(op.D)),
        dt_bias(global_data<const float>(op.dt_bias)),
        D_per_channel(op.D.rank == 2),
        softplus(op.dt_softplus),
        dt_min(op.dt_min),
        dt_max(op.dt_max),
        y(op.y),
        state(op.state),
        sequences(op.cu_seqlens, op.slots, op.x[0]),
        nheads(int(op.x[1])),
        headdim(int(op.x[2])),
        ngroups(int(op.B[1])),
        d_state(int(op.B[2])),
        pieces{sequences, sequences.tokens} {}

  __device__ int group(int head) const { return head / (nheads / ngroups); }
  __device__ float step(int64_t token, int head) const {
    const float v = dt[token][head] + (dt_bias ? dt_bias[head] : 0);
    return fminf(dt_max, fmaxf(dt_min, softplus ? cuda::softplus(v) : v));
  }
  // The log of a step's decay. A step beyond -kReset leaves nothing of a state, whatever it is: such steps, infinite
  // ones among them, count as one of -kReset, so that they hide no digits of the others in sums. A step of 0 keeps the
  // state, also where A is -∞.
  static constexpr double kReset = 1000;
  __device__ double log_decay(float dt, int head) const {
    const double log = double(dt) * finite_rate(A[head]);
    return log < -kReset ? -kReset : log;
  }
  // y = (out + D x) · silu(z)
  __device__ void store(int64_t token, int head, int p, float out) const {
    const int64_t i = int64_t(head) * headdim + p;
    if (D) out += D[D_per_channel ? i : head] * x(token, i);
    y[token][i] = z ? out * silu(z[token][i]) : out;
  }
  __device__ int64_t state_size() const { return int64_t(headdim) * d_state; }
};

void ssd_chunked(const SsdArgs& a, bool exact);
void ssd_quadratic(const SsdArgs& a, bool exact);

}  // namespace statespace::cuda
