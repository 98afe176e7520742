#include "attention.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256;

struct JoinArgs {
  global<const float> partial;
  Rows<float> y;
  int64_t rows;  // tokens · nheads
  int nheads, headdim, splits;
};

// One row a warp: the parts that its key ranges left, weighted by their maxima.
__global__ void __launch_bounds__(kThreads) join_splits(JoinArgs a) {
  const int64_t row = int64_t(blockIdx.x) * (kThreads / 32) + warp();
  if (row >= a.rows) return;
  const int64_t width = a.headdim + 2;
  RowState state;
  for (int i = 0; i < a.splits; ++i) state.max = fmaxf(state.max, a.partial[(i * a.rows + row) * width + a.headdim]);
  for (int i = 0; i < a.splits; ++i) {
    const global<const float> part = a.partial + (i * a.rows + row) * width;
    state.sum += state.weight(part[a.headdim]) * part[a.headdim + 1];
  }
  const global<float> y = a.y[row / a.nheads] + row % a.nheads * a.headdim;
  for (int d = lane(); d < a.headdim; d += 32) {
    float sum = 0;
    for (int i = 0; i < a.splits; ++i) {
      const global<const float> part = a.partial + (i * a.rows + row) * width;
      sum += state.weight(part[a.headdim]) * part[d];
    }
    y[d] = state.sum == 0 ? 0 : sum / state.sum;
  }
}

template <class T>
void attend(const Attention& op) {
  const int64_t rows = op.q[0] * (op.q[1] / op.k[1]), sequences = op.cu_seqlens ? op.cu_seqlens[0] - 1 : 1;
  const bool few = rows <= 16 * sequences;
  const int rows_per_block = few ? 16 : 64;
  AttentionArgs<T> args(op, rows_per_block);
  // Where there are few rows, their keys are split until the device is full.
  constexpr int kShortest = 256;
  const int64_t blocks = args.blocks.count() * args.nheads_kv;
  args.splits = int(
      larger<int64_t>(1, smaller(ceil_div((few ? 8 : 2) * multiprocessors(), blocks), ceil_div(args.keys, kShortest))));
  const bool tensor_cores = !std::is_same_v<T, float> && args.headdim <= kLargestHead;
  auto start = [&] { tensor_cores ? attention_mma(args) : attention_fma(args); };
  if (args.splits == 1) return start();

  const int64_t heads = op.q[0] * op.q[1];
  const Scratch<float> partial(args.splits * heads * (args.headdim + 2));
  args.partial = partial.data();
  start();
  const JoinArgs join{partial.data(), op.y, heads, int(op.q[1]), args.headdim, args.splits};
  launch(join_splits, {ceil_div(heads, kThreads / 32)}, kThreads, join);
}

}  // namespace

template <>
void run(const Attention& op) {
  if (op.q[0] == 0 || op.q[2] == 0) return;
  if (op.k.dtype == DType::f16) return attend<f16>(op);
  if (op.k.dtype == DType::bf16) return attend<bf16>(op);
  attend<float>(op);
}

}  // namespace statespace::cuda
