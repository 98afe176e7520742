#include "elementary.h"
#include "norms.h"
#include "ops/rms_norm.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct RmsNormArgs {
  Rows<const float> x, z;
  global<const float> weight, bias;
  Rows<float> y;
  int64_t rows;
  int groups, group;
  float eps, offset;
  bool gate_first;  // norm(x · silu(z)), else norm(x) · silu(z)
};

template <int kTeam>
__global__ void __launch_bounds__(kNormThreads, 4) rms_norm(RmsNormArgs a) {
  const Team<kTeam> team(a.rows, a.groups, a.group);
  const int count = team.active ? a.group : 0;
  const global<const float> x = a.x[team.row] + team.first;
  const global<const float> z = a.z ? a.z[team.row] + team.first : a.z.data;
  const auto value = [&](int c) { return a.gate_first ? x[c] * silu(z[c]) : x[c]; };
  float squares = 0;
  for (int c = team.thread; c < count; c += kTeam) squares += value(c) * value(c);
  const float scale = 1 / sqrtf(team_sum<kTeam>(squares) / float(a.group) + a.eps);
  const global<float> y = a.y[team.row] + team.first;
  for (int c = team.thread; c < count; c += kTeam) {
    float v = value(c) * scale;
    if (a.weight) v *= a.weight[team.first + c] + a.offset;
    if (a.bias) v += a.bias[team.first + c];
    y[c] = a.z && !a.gate_first ? v * silu(z[c]) : v;
  }
}

}  // namespace

template <>
void run(const RmsNorm& op) {
  const int64_t group = op.group_size ? op.group_size : op.x[1], groups = group ? op.x[1] / group : 0;
  const RmsNormArgs a{op.x,
                      op.z,
                      global_data<const float>(op.weight),
                      global_data<const float>(op.bias),
                      op.y,
                      op.x[0],
                      int(groups),
                      int(group),
                      op.eps,
                      op.unit_offset ? 1.f : 0.f,
                      op.z && !op.norm_before_gate};
  launch_norm(rms_norm<32>, rms_norm<kNormThreads>, op.x[0], groups, group, a);
}

}  // namespace statespace::cuda
