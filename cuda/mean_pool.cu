#include "ops/mean_pool.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

struct MeanArgs {
  Rows<const float> x;
  Rows<float> y, state;
  global<const int32_t> key_lengths;
  Sequences sequences;
  int channels;
};

constexpr int kChannels = 32, kRows = 8;

struct MeanShared {
  float part[kRows][kChannels];
};

// A warp sums every eighth token of 32 channels; compensated (Kahan), so that long sequences lose nothing.
__global__ void __launch_bounds__(kChannels* kRows) mean_pool(MeanArgs a) {
  auto& shared_sums = shared<MeanShared>();
  const int s = int(blockIdx.x), c = int(blockIdx.y) * kChannels + lane();
  const int begin = a.sequences.begin(s), end = a.sequences.end(s);
  float sum = 0, lost = 0;
  if (c < a.channels)
    for (int t = begin + warp(); t < end; t += kRows) {
      const float v = a.x[t][c] - lost, larger_sum = sum + v;
      lost = (larger_sum - sum) - v;
      sum = larger_sum;
    }
  shared_sums.part[warp()][lane()] = sum;
  barrier();
  if (warp() != 0 || c >= a.channels) return;
  float total = 0;
#pragma unroll
  for (int r = 0; r < kRows; ++r) total += shared_sums.part[r][lane()];
  // The mean of `count` tokens, of which these are the last and `before` is that of the others.
  const int length = end - begin, count = a.key_lengths ? a.key_lengths[s] : length;
  float& state = a.state[a.sequences.slot(s)][c];
  const float before = count > length ? state : 0;
  state = length > 0 ? before + (total - float(length) * before) / float(count) : before;
  a.y[s][c] = state;
}

}  // namespace

template <>
void run(const MeanPool& op) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  launch(mean_pool, {sequences.count, ceil_div(op.x[1], kChannels)}, kChannels * kRows,
         {op.x, op.y, op.state, global_data<const int32_t>(op.key_lengths), sequences, int(op.x[1])});
}

}  // namespace statespace::cuda
