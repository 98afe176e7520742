#include "elementary.h"
#include "norms.h"
#include "ops/stream_gate.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct StreamGateArgs {
  Rows<const float> q, k, v;
  Rows<float> y;
  int64_t tokens;
  int streams, channels;
  float scale;
};

// A team for each stream of each token: its product of key and query, then its gated value.
template <int kTeam>
__global__ void __launch_bounds__(kNormThreads, 4) stream_gate(StreamGateArgs a) {
  const Team<kTeam> team(a.tokens, a.streams, a.channels);
  const int count = team.active ? a.channels : 0;
  const global<const float> q = a.q[team.row] + team.first, k = a.k[team.row] + team.first, v = a.v[team.row];
  float dot = 0;
  for (int c = team.thread; c < count; c += kTeam) dot = fmaf(q[c], k[c], dot);
  const float s = team_sum<kTeam>(dot) * a.scale, magnitude = sqrtf(larger(fabsf(s), 1e-6f));
  const float gate = sigmoid(s > 0 ? magnitude : s < 0 ? -magnitude : s * 0);
  const global<float> y = a.y[team.row] + team.first;
  for (int c = team.thread; c < count; c += kTeam) y[c] = gate * v[c];
}

}  // namespace

template <>
void run(const StreamGate& op) {
  const int64_t streams = op.q[1], channels = op.q[2];
  const StreamGateArgs a{op.q, op.k, op.v, op.y, op.q[0], int(streams), int(channels), 1 / std::sqrt(float(channels))};
  launch_norm(stream_gate<32>, stream_gate<kNormThreads>, op.q[0], streams, channels, a);
}

}  // namespace statespace::cuda
