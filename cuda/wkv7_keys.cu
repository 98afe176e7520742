#include "norms.h"
#include "ops/wkv7_keys.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct KeysArgs {
  Rows<const float> k, a;
  global<const float> kk, ka;
  Rows<float> y;
  int64_t tokens;
  int nheads, keys;
};

template <int kTeam>
__global__ void __launch_bounds__(kNormThreads) wkv7_keys(KeysArgs p) {
  const Team<kTeam> team(p.tokens, p.nheads, p.keys);
  const int end = team.active ? int(team.first) + p.keys : 0, begin = int(team.first) + team.thread;
  const global<const float> k = p.k[team.row], a = p.a[team.row];
  float squares = 0;
  for (int c = begin; c < end; c += kTeam) squares += (k[c] * p.kk[c]) * (k[c] * p.kk[c]);
  const float scale = 1 / fmaxf(sqrtf(team_sum<kTeam>(squares)), 1e-12f);
  const global<float> y = p.y[team.row];
  const int width = p.nheads * p.keys;
  for (int c = begin; c < end; c += kTeam) {
    const float kappa = k[c] * p.kk[c] * scale;
    y[c] = k[c] + (a[c] - 1) * k[c] * p.ka[c];
    y[width + c] = -kappa;
    y[2 * width + c] = kappa * a[c];
  }
}

}  // namespace

template <>
void run(const Wkv7Keys& op) {
  const int64_t nheads = op.k[1], keys = op.k[2];
  const KeysArgs p{
      op.k,        op.a,     global_data<const float>(op.kk), global_data<const float>(op.ka), op.y, op.k[0],
      int(nheads), int(keys)};
  launch_norm(wkv7_keys<32>, wkv7_keys<kNormThreads>, op.k[0], nheads, keys, p);
}

}  // namespace statespace::cuda
