#pragma once
// What the norms share: a team of threads (a warp, or a whole block) goes over one group of channels of one row.
#include "views.h"

namespace statespace::cuda {

constexpr int kNormThreads = 256;
constexpr int kWarpChannels = 512;  // up to here a warp takes a group, beyond a block

// A team's place: which group of which row, and its threads' numbers.
template <int kTeam>
struct Team {
  int64_t row, first;  // channel
  int thread;
  bool active;

  __device__ Team(int64_t rows, int groups, int group) {
    const int64_t i = int64_t(blockIdx.x) * (kNormThreads / kTeam) + int(threadIdx.x) / kTeam;
    active = i < rows * groups;
    row = active ? i / groups : 0;
    first = active ? i % groups * group : 0;
    thread = int(threadIdx.x) % kTeam;
  }
};

struct TeamShared {
  float part[kNormThreads / 32];
};

// The sum over the team, for each of its threads. All threads of the block take part.
template <int kTeam>
__device__ float team_sum(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  if constexpr (kTeam > 32) {
    auto& s = shared<TeamShared>();
    barrier();  // an earlier sum has been read
    if (lane() == 0) s.part[warp()] = v;
    barrier();
    v = 0;
#pragma unroll
    for (int w = 0; w < kTeam / 32; ++w) v += s.part[w];
  }
  return v;
}

// Launches warps<args> or blocks<args> over all groups.
template <class Args>
void launch_norm(void (*warps)(Args), void (*blocks)(Args), int64_t rows, int64_t groups, int64_t group,
                 const Args& a) {
  const int64_t teams = group <= kWarpChannels ? kNormThreads / 32 : 1;
  launch(teams > 1 ? warps : blocks, {ceil_div(rows * groups, teams)}, kNormThreads, a);
}

}  // namespace statespace::cuda
