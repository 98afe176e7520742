#include "norms.h"
#include "ops/wkv7_bonus.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct BonusArgs {
  Rows<const float> x, r, k, v;
  global<const float> u;
  Rows<float> y;
  int64_t tokens;
  int nheads, keys, values;
};

template <int kTeam>
__global__ void __launch_bounds__(kNormThreads) wkv7_bonus(BonusArgs p) {
  const Team<kTeam> team(p.tokens, p.nheads, p.keys);
  const int first = int(team.first), end = team.active ? first + p.keys : 0;
  const global<const float> r = p.r[team.row], k = p.k[team.row];
  float products = 0;
  for (int c = first + team.thread; c < end; c += kTeam) products += r[c] * p.u[c] * k[c];
  const float weight = team_sum<kTeam>(products);
  if (!team.active) return;
  const int value = first / p.keys * p.values;
  const global<const float> x = p.x[team.row], v = p.v[team.row];
  const global<float> y = p.y[team.row];
  for (int c = value + team.thread; c < value + p.values; c += kTeam) y[c] = x[c] + weight * v[c];
}

}  // namespace

template <>
void run(const Wkv7Bonus& op) {
  const int64_t nheads = op.r[1], keys = op.r[2];
  const BonusArgs p{op.x, op.r,    op.k,        op.v,      global_data<const float>(op.u),
                    op.y, op.x[0], int(nheads), int(keys), int(op.v[2])};
  launch_norm(wkv7_bonus<32>, wkv7_bonus<kNormThreads>, op.x[0], nheads, keys, p);
}

}  // namespace statespace::cuda
