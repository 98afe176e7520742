#include "norms.h"
#include "ops/layer_norm.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct LayerNormArgs {
  Rows<const float> x;
  global<const float> weight, bias;
  Rows<float> y;
  int64_t rows;
  int groups, group;
  float eps;
};

template <int kTeam>
__global__ void __launch_bounds__(kNormThreads) layer_norm(LayerNormArgs a) {
  const Team<kTeam> team(a.rows, a.groups, a.group);
  const int count = team.active ? a.group : 0;
  const global<const float> x = a.x[team.row] + team.first;
  float sum = 0, squares = 0;
  for (int c = team.thread; c < count; c += kTeam) sum += x[c];
  const float mean = team_sum<kTeam>(sum) / float(a.group);
  // What the mean lacks, because a sum is rounded, is more than all of a small variance: it is taken off as well.
  float rest = 0;
  for (int c = team.thread; c < count; c += kTeam) {
    const float d = x[c] - mean;
    squares += d * d, rest += d;
  }
  rest = team_sum<kTeam>(rest) / float(a.group);
  const float variance = team_sum<kTeam>(squares) / float(a.group) - rest * rest;
  const float scale = 1 / sqrtf((variance < 0 ? 0 : variance) + a.eps);
  const global<float> y = a.y[team.row] + team.first;
  for (int c = team.thread; c < count; c += kTeam) {
    float v = (x[c] - mean - rest) * scale;
    if (a.weight) v *= a.weight[team.first + c];
    if (a.bias) v += a.bias[team.first + c];
    y[c] = v;
  }
}

}  // namespace

template <>
void run(const LayerNorm& op) {
  const int64_t group = op.group_size ? op.group_size : op.x[1], groups = group ? op.x[1] / group : 0;
  const LayerNormArgs a{op.x,
                        global_data<const float>(op.weight),
                        global_data<const float>(op.bias),
                        op.y,
                        op.x[0],
                        int(groups),
                        int(group),
                        op.eps};
  launch_norm(layer_norm<32>, layer_norm<kNormThreads>, op.x[0], groups, group, a);
}

}  // namespace statespace::cuda
