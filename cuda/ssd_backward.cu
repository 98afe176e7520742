// SSD's gradient as a selective scan's: channel d is (head, p), and the channels of a head share A and dt.
#include "ops/ssd.h"
#include "pointwise.h"
#include "runtime.h"
#include "scan_gradient.h"

namespace statespace::cuda {
namespace {

struct SsdSystem {
  using Number = float;
  Rows<const float> x, dt_raw, B_, C_, z, dy;
  global<const float> A_, dt_bias;
  int headdim, heads_per_group, states;
  bool softplus;
  float low, high;

  __device__ float raw(int64_t t, int64_t h) const { return dt_raw[t][h] + (dt_bias ? dt_bias[h] : 0); }
  __device__ float unclamped(int64_t t, int64_t h) const { return softplus ? cuda::softplus(raw(t, h)) : raw(t, h); }
  __device__ float step(int64_t t, int64_t h) const { return fminf(fmaxf(unclamped(t, h), low), high); }
  // Of a head's dt in the raw one; the clamp's bounds are inside.
  __device__ float slope(int64_t t, int64_t h) const {
    const float s = unclamped(t, h);
    return s < low || s > high ? 0 : softplus ? softplus_gradient(raw(t, h)) : 1;
  }
  __device__ float dt(int64_t t, int64_t d) const { return step(t, d / headdim); }
  __device__ float u(int64_t t, int64_t d) const { return x[t][d]; }
  __device__ float g(int64_t t, int64_t d) const { return z ? dy[t][d] * silu(z[t][d]) : dy[t][d]; }
  __device__ float A(int64_t d, int64_t) const { return Field<float>::bounded(A_[d / headdim]); }
  __device__ float B(int64_t t, int64_t d, int64_t n) const {
    return B_[t][d / headdim / heads_per_group * states + n];
  }
  __device__ float C(int64_t t, int64_t d, int64_t n) const {
    return C_[t][d / headdim / heads_per_group * states + n];
  }
  __device__ float weight(float) const { return 1; }
};

struct SsdFinish {
  SsdSystem system;
  global<const float> fed, kept, y;
  Rows<const float> D;
  bool D_per_channel;
  int blocks;
  int64_t tokens, channels;
  Rows<float> dx, dz;

  __device__ float sum(const global<const float>& from, int64_t t, int64_t d) const {
    float total = 0;
    for (int b = 0; b < blocks; ++b) total += from[(b * tokens + t) * channels + d];
    return total;
  }
  __device__ float skip(int64_t d) const {
    const int64_t h = d / system.headdim;
    return !D ? 0 : D_per_channel ? D[h][d % system.headdim] : D.data[h];
  }
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t d = first + i;
      if (dx) dx[t][d] = skip(d) * system.g(t, d) + system.dt(t, d) * sum(fed, t, d);
      if (dz) dz[t][d] = system.dy[t][d] * (sum(y, t, d) + skip(d) * system.x[t][d]) * silu_gradient(system.z[t][d]);
    }
  }
  __device__ float kept_of(int64_t t, int64_t h) const {
    float total = 0;
    for (int p = 0; p < system.headdim; ++p) total += sum(kept, t, h * system.headdim + p);
    return total;
  }
  __device__ float slope(int64_t t, int64_t h) const {
    float total = 0;
    for (int p = 0; p < system.headdim; ++p) {
      const int64_t d = h * system.headdim + p;
      total += system.x[t][d] * sum(fed, t, d);
    }
    return (total + system.A(h * system.headdim, 0) * kept_of(t, h)) * system.slope(t, h);
  }
};

struct StepGradient {
  SsdFinish f;
  Rows<float> ddt;
  template <int W>
  __device__ void at(int64_t t, int64_t h) const {
#pragma unroll
    for (int i = 0; i < W; ++i) ddt[t][h + i] = f.slope(t, h + i);
  }
};
struct StepBiasSum {
  SsdFinish f;
  __device__ float operator()(int64_t t, int64_t h) const { return f.slope(t, h); }
};
struct DecaySum {
  SsdFinish f;
  __device__ float operator()(int64_t t, int64_t h) const { return f.system.step(t, h) * f.kept_of(t, h); }
};
struct SkipSum {
  SsdFinish f;
  bool per_channel;
  __device__ float operator()(int64_t t, int64_t c) const {
    if (per_channel) return f.system.g(t, c) * f.system.x[t][c];
    float total = 0;
    for (int64_t d = c * f.system.headdim; d < (c + 1) * f.system.headdim; ++d)
      total += f.system.g(t, d) * f.system.x[t][d];
    return total;
  }
};

}  // namespace

template <>
void run(const SsdBackward& op) {
  const int64_t tokens = op.x[0], nheads = op.x[1], headdim = op.x[2], channels = nheads * headdim;
  const SsdSystem system{op.x,
                         op.dt,
                         op.B,
                         op.C,
                         op.z,
                         op.dy,
                         global_data<const float>(op.A),
                         global_data<const float>(op.dt_bias),
                         int(headdim),
                         int(nheads / op.B[1]),
                         int(op.B[2]),
                         op.dt_softplus,
                         op.dt_min,
                         op.dt_max};
  const int groups = int(op.B[1]);
  const ScanGradients to{op.initial_state, op.dlast_state, op.dinitial_state, Tensor{}, op.dB, op.dC, false, false,
                         groups,           groups};
  run_scan_gradient(system, Sequences(op.cu_seqlens, Tensor{}, tokens), channels, op.B[2], to,
                    [&](global<float> fed, global<float> kept, global<float> y, int blocks) {
                      const SsdFinish f{system, fed,    kept,     y,     op.D, op.D && op.D.rank == 2,
                                        blocks, tokens, channels, op.dx, op.dz};
                      launch_pointwise(f, tokens, channels);
                      if (op.ddt) launch_pointwise(StepGradient{f, op.ddt}, tokens, nheads);
                      if (op.dA) sum_columns(DecaySum{f}, tokens, op.dA);
                      if (op.ddt_bias) sum_columns(StepBiasSum{f}, tokens, op.ddt_bias);
                      if (!op.dD) return;
                      const bool per_channel = op.dD.rank == 2;
                      sum_columns(SkipSum{f, per_channel}, tokens, per_channel ? channels : nheads, Rows<float>(op.dD),
                                  per_channel ? headdim : nheads);
                    });
}

}  // namespace statespace::cuda
