// Gradients of the norms: what a group of a row needs (1 / its deviation, and means over it) first, then the sums over
// rows, then every value by itself. dx and dz may be dy.
#include "gradients.h"
#include "norms.h"
#include "ops/layer_norm.h"
#include "ops/rms_norm.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct NormArgs {
  Rows<const float> x, z, dy;
  global<const float> weight, bias;
  Rows<float> dx, dz;
  int64_t rows;
  int groups, group;
  float eps, offset;
  bool centred, gate_first, gate_last;
  global<float> stats;  // (rows, groups, 4): mean, 1 / deviation, mean of g, mean of g x̂

  // What is normalised, and the gradient of the norm's output.
  __device__ float input(int64_t t, int64_t c) const { return gate_first ? x[t][c] * silu(z[t][c]) : x[t][c]; }
  __device__ float upstream(int64_t t, int64_t c) const { return gate_last ? dy[t][c] * silu(z[t][c]) : dy[t][c]; }
  __device__ float scale(int64_t c) const { return weight ? weight[c] + offset : 1; }
  __device__ global<float> stat(int64_t t, int64_t c) const { return stats + (t * groups + c / group) * 4; }
  __device__ float unit(int64_t t, int64_t c) const {
    const global<float> s = stat(t, c);
    return (input(t, c) - s[0]) * s[1];
  }
};

template <int kTeam>
__global__ void __launch_bounds__(kNormThreads) norm_stats(NormArgs a) {
  const Team<kTeam> team(a.rows, a.groups, a.group);
  const int count = team.active ? a.group : 0;
  const float n = float(a.group);
  float sum = 0, squares = 0, gradients = 0, products = 0;
  for (int i = team.thread; i < count; i += kTeam) sum += a.input(team.row, team.first + i);
  const float mean = a.centred ? team_sum<kTeam>(sum) / n : 0;
  for (int i = team.thread; i < count; i += kTeam) {
    const int64_t c = team.first + i;
    const float d = a.input(team.row, c) - mean, g = a.upstream(team.row, c) * a.scale(c);
    squares += d * d, gradients += g, products += g * d;
  }
  const float r = 1 / sqrtf(team_sum<kTeam>(squares) / n + a.eps);
  const float mean_g = a.centred ? team_sum<kTeam>(gradients) / n : 0, mean_gx = team_sum<kTeam>(products) * r / n;
  if (!team.active || team.thread != 0) return;
  const global<float> s = a.stat(team.row, team.first);
  s[0] = mean, s[1] = r, s[2] = mean_g, s[3] = mean_gx;
}

struct WeightSum {
  NormArgs a;
  __device__ float operator()(int64_t t, int64_t c) const { return a.upstream(t, c) * a.unit(t, c); }
};
struct BiasSum {
  NormArgs a;
  __device__ float operator()(int64_t t, int64_t c) const { return a.upstream(t, c); }
};

struct NormGradient {
  NormArgs a;
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t c = first + i;
      const global<float> s = a.stat(t, c);
      const float dy = a.dy[t][c], x = a.x[t][c], z = a.z ? a.z[t][c] : 0, unit = a.unit(t, c), w = a.scale(c);
      const float dm = s[1] * (a.upstream(t, c) * w - s[2] - unit * s[3]);
      if (a.dx) a.dx[t][c] = a.gate_first ? dm * silu(z) : dm;
      if (!a.dz) continue;
      const float out = unit * w + (a.bias ? a.bias[c] : 0);
      a.dz[t][c] = a.gate_last ? dy * out * silu_gradient(z) : dm * x * silu_gradient(z);
    }
  }
};

void gradients(NormArgs a, const Tensor& dweight, const Tensor& dbias) {
  const int64_t channels = int64_t(a.groups) * a.group;
  const Scratch<float> stats(larger<int64_t>(a.rows * a.groups * 4, 1));
  a.stats = stats.data();
  launch_norm(norm_stats<32>, norm_stats<kNormThreads>, a.rows, a.groups, a.group, a);
  if (dweight) sum_columns(WeightSum{a}, a.rows, dweight);
  if (dbias) sum_columns(BiasSum{a}, a.rows, dbias);
  if (a.dx || a.dz) launch_pointwise(NormGradient{a}, a.rows, channels);
}

template <class Op>
NormArgs shape_of(const Op& op) {
  NormArgs a{};
  a.x = op.x, a.dy = op.dy, a.dx = op.dx;
  a.weight = global_data<const float>(op.weight);
  a.rows = op.x[0], a.group = int(op.group_size ? op.group_size : op.x[1]);
  a.groups = a.group ? int(op.x[1] / a.group) : 0;
  a.eps = op.eps;
  return a;
}

}  // namespace

template <>
void run(const RmsNormBackward& op) {
  NormArgs a = shape_of(op);
  a.z = op.z, a.dz = op.dz, a.bias = global_data<const float>(op.bias);
  a.offset = op.unit_offset ? 1.f : 0.f;
  a.gate_first = op.z && !op.norm_before_gate, a.gate_last = op.z && op.norm_before_gate;
  gradients(a, op.dweight, op.dbias);
}

template <>
void run(const LayerNormBackward& op) {
  NormArgs a = shape_of(op);
  a.centred = true;
  gradients(a, op.dweight, op.dbias);
}

}  // namespace statespace::cuda
