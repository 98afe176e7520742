#include "ops/token_shift_mix.h"
#include "runtime.h"
#include "token_shift.h"

namespace statespace::cuda {
namespace {

struct Mixes {
  Rows<const float> mix;
  Rows<float> y;
  int count, channels;
  __device__ void operator()(int t, int c, float previous, float now) const {
    for (int m = 0; m < count; ++m) y[t][m * channels + c] = now + (previous - now) * mix[m][c];
  }
};

}  // namespace

template <>
void run(const TokenShiftMix& op) {
  launch_shift(Mixes{op.mix, op.y, int(op.mix[0]), int(op.x[1])}, op.x, op.state,
               Sequences(op.cu_seqlens, op.slots, op.x[0]));
}

}  // namespace statespace::cuda
