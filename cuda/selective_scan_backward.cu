#include "ops/selective_scan.h"
#include "pointwise.h"
#include "runtime.h"
#include "scan_gradient.h"

namespace statespace::cuda {
namespace {

template <class T>
struct ScanSystem {
  using Number = T;
  using N = Field<T>;
  Rows<const float> u_, delta, A_, B_, C_, z, dy;
  global<const float> delta_bias;
  int d_inner, states, B_groups, C_groups;
  bool softplus, constant_B, constant_C;

  __device__ float raw(int64_t t, int64_t d) const { return delta[t][d] + (delta_bias ? delta_bias[d] : 0); }
  __device__ float dt(int64_t t, int64_t d) const { return softplus ? cuda::softplus(raw(t, d)) : raw(t, d); }
  __device__ float u(int64_t t, int64_t d) const { return u_[t][d]; }
  __device__ float g(int64_t t, int64_t d) const { return z ? dy[t][d] * silu(z[t][d]) : dy[t][d]; }
  __device__ T A(int64_t d, int64_t n) const { return N::bounded(N::load(A_[d], n)); }
  __device__ T B(int64_t t, int64_t d, int64_t n) const {
    return constant_B ? N::load(B_[d], n) : N::load(B_[t], d / (d_inner / B_groups) * states + n);
  }
  __device__ T C(int64_t t, int64_t d, int64_t n) const {
    return constant_C ? N::load(C_[d], n) : N::load(C_[t], d / (d_inner / C_groups) * states + n);
  }
  __device__ T weight(T A) const { return A; }
};

template <class T>
struct ScanFinish {
  ScanSystem<T> system;
  global<const float> fed, kept, y, D;
  int blocks;
  int64_t tokens;
  Rows<float> du, ddelta, dz;

  __device__ float sum(const global<const float>& from, int64_t t, int64_t d) const {
    float total = 0;
    for (int b = 0; b < blocks; ++b) total += from[(b * tokens + t) * system.d_inner + d];
    return total;
  }
  __device__ float slope(int64_t t, int64_t d) const {
    const float ddt = system.u(t, d) * sum(fed, t, d) + sum(kept, t, d);
    return system.softplus ? ddt * softplus_gradient(system.raw(t, d)) : ddt;
  }
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t d = first + i;
      const float skip = D ? D[d] : 0;
      if (du) du[t][d] = skip * system.g(t, d) + system.dt(t, d) * sum(fed, t, d);
      if (ddelta) ddelta[t][d] = slope(t, d);
      if (dz) dz[t][d] = system.dy[t][d] * (sum(y, t, d) + skip * system.u(t, d)) * silu_gradient(system.z[t][d]);
    }
  }
};
template <class T>
struct ScanBiasSum {
  ScanFinish<T> f;
  __device__ float operator()(int64_t t, int64_t d) const { return f.slope(t, d); }
};
template <class T>
struct ScanSkipSum {
  ScanFinish<T> f;
  __device__ float operator()(int64_t t, int64_t d) const { return f.system.g(t, d) * f.system.u(t, d); }
};

template <class T>
void gradient(const SelectiveScanBackward& op) {
  const int64_t tokens = op.u[0], d_inner = op.u[1];
  const bool fixed_B = op.constant(op.B), fixed_C = op.constant(op.C);
  const ScanGradients to{op.initial_state,
                         op.dlast_state,
                         op.dinitial_state,
                         op.dA,
                         op.dB,
                         op.dC,
                         fixed_B,
                         fixed_C,
                         fixed_B ? 1 : int(op.B[1]),
                         fixed_C ? 1 : int(op.C[1])};
  const ScanSystem<T> system{op.u,
                             op.delta,
                             op.A,
                             op.B,
                             op.C,
                             op.z,
                             op.dy,
                             global_data<const float>(op.delta_bias),
                             int(d_inner),
                             int(op.A[1]),
                             to.B_groups,
                             to.C_groups,
                             op.delta_softplus,
                             fixed_B,
                             fixed_C};
  run_scan_gradient(system, Sequences(op.cu_seqlens, Tensor{}, tokens), d_inner, op.A[1], to,
                    [&](global<float> fed, global<float> kept, global<float> y, int blocks) {
                      const ScanFinish<T> f{system, fed,    kept,  y,         global_data<const float>(op.D),
                                            blocks, tokens, op.du, op.ddelta, op.dz};
                      launch_pointwise(f, tokens, d_inner);
                      if (op.ddelta_bias) sum_columns(ScanBiasSum<T>{f}, tokens, op.ddelta_bias);
                      if (op.dD) sum_columns(ScanSkipSum<T>{f}, tokens, op.dD);
                    });
}

}  // namespace

template <>
void run(const SelectiveScanBackward& op) {
  op.complex() ? gradient<Complex>(op) : gradient<float>(op);
}

}  // namespace statespace::cuda
