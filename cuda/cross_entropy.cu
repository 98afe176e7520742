// The loss, alone and behind its head: a warp takes a row of logits. The head's logits exist a block of rows at a time.
#include "linear_gradient.h"
#include "ops/cross_entropy.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int64_t kRowsABlock = 256;  // of the head's logits

struct LossArgs {
  Rows<const float> logits;
  global<const int32_t> targets;
  int64_t rows, vocab, ignored;
  float smoothing, scale;
  global<float> row_loss;            // (rows)
  global<float> lse;                 // (rows), absent where nobody asks
  global<const float> count, dloss;  // (1)
  Rows<float> dlogits;               // absent without gradients; may be logits
};

__global__ void __launch_bounds__(kThreads) row_losses(LossArgs a) {
  const int64_t r = int64_t(blockIdx.x) * kWarps + warp();
  if (r >= a.rows) return;  // the whole warp
  const global<const float> row = a.logits[r];
  const int target = a.targets[r];
  const bool kept = target != a.ignored;
  float top = -INFINITY, sum = 0, all = 0;
  for (int64_t c = lane(); c < a.vocab; c += 32) top = fmaxf(top, a.scale * row[c]);
  top = warp_max(top);
  for (int64_t c = lane(); c < a.vocab; c += 32) sum += expf(a.scale * row[c] - top), all += a.scale * row[c];
  const float lse = top + logf(warp_sum(sum)), mean = warp_sum(all) / float(a.vocab);
  const float own = kept ? a.scale * row[target] : 0;
  if (lane() == 0) {
    if (a.row_loss) a.row_loss[r] = kept ? lse - (1 - a.smoothing) * own - a.smoothing * mean : 0;
    if (a.lse) a.lse[r] = lse;
  }
  if (!a.dlogits) return;
  warp_barrier();  // the target's logit has been read: the row may be written over it
  const float n = a.count[0], up = kept && n > 0 ? a.scale * (a.dloss ? a.dloss[0] : 1) / n : 0;
  for (int64_t c = lane(); c < a.vocab; c += 32) {
    const float p = expf(a.scale * row[c] - lse);
    a.dlogits[r][c] = up * (p - (c == target ? 1 - a.smoothing : 0) - a.smoothing / float(a.vocab));
  }
}

struct CountArgs {
  global<const int32_t> targets;
  int64_t rows, ignored;
  global<float> count;
};
__global__ void __launch_bounds__(32) count_targets(CountArgs a) {
  int kept = 0;
  for (int64_t r = lane(); r < a.rows; r += 32) kept += a.targets[r] != a.ignored;
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) kept += shuffle_xor(kept, mask);
  if (lane() == 0) a.count[0] = float(kept);
}

struct MeanArgs {
  global<const float> row_loss, count;
  int64_t rows;
  global<float> loss;
};
__global__ void __launch_bounds__(32) mean_loss(MeanArgs a) {
  float total = 0;
  for (int64_t r = lane(); r < a.rows; r += 32) total += a.row_loss[r];
  total = warp_sum(total);
  if (lane() == 0) a.loss[0] = a.count[0] > 0 ? total / a.count[0] : 0;
}

// The number of targets that count, or what divides in its place.
class Count {
 public:
  Count(const Tensor& targets, int64_t ignored, const Tensor& divisor) : scratch_(1) {
    given_ = global_data<const float>(divisor);
    if (given_) return;
    launch(count_targets, {1}, 32, {global_data<const int32_t>(targets), targets[0], ignored, scratch_.data()});
  }
  global<const float> data() const { return given_ ? given_ : global<const float>(scratch_.data()); }

 private:
  Scratch<float> scratch_;
  global<const float> given_ = nullptr;
};

void start(const LossArgs& a) { launch(row_losses, {ceil_div(a.rows, kWarps)}, kThreads, a); }

template <class Op>
LossArgs loss_of(const Op& op, const Count& count) {
  LossArgs a{};
  a.targets = global_data<const int32_t>(op.targets);
  a.rows = op.targets[0], a.ignored = op.ignore_index, a.smoothing = op.label_smoothing, a.scale = 1;
  a.dloss = nullptr, a.count = count.data();
  return a;
}

}  // namespace

template <>
void run(const CrossEntropy& op) {
  const Count count(op.targets, op.ignore_index, Tensor{});
  const Scratch<float> losses(larger<int64_t>(op.logits[0], 1));
  LossArgs a = loss_of(op, count);
  a.logits = op.logits, a.vocab = op.logits[1], a.row_loss = losses.data(), a.lse = global_data<float>(op.lse);
  start(a);
  launch(mean_loss, {1}, 32, {losses.data(), count.data(), a.rows, global_data<float>(op.loss)});
}

template <>
void run(const CrossEntropyBackward& op) {
  if (!op.dlogits) return;
  const Count count(op.targets, op.ignore_index, Tensor{});
  LossArgs a = loss_of(op, count);
  a.logits = op.logits, a.vocab = op.logits[1], a.dloss = global_data<const float>(op.dloss), a.dlogits = op.dlogits;
  start(a);
}

template <>
void run(const LinearCrossEntropy& op) {
  const int64_t rows = op.x[0], vocab = op.weight[0];
  const Count count(op.targets, op.ignore_index, op.divisor);
  const Scratch<float> losses(larger<int64_t>(rows, 1));
  const Scratch<float> logits(larger<int64_t>(smaller(rows, kRowsABlock) * vocab, 1));
  const bool gradients = op.dx || op.dweight || op.dbias;
  for (int64_t first = 0; first < rows || (first == 0 && rows == 0); first += kRowsABlock) {
    const int64_t n = smaller(kRowsABlock, rows - first);
    Rows<float> block;
    block.data = logits.data(), block.stride = vocab;
    if (n > 0) {
      Product p(op.weight, Sequences(Tensor{}, Tensor{}, n));
      Tensor x = op.x;
      x.data = static_cast<char*>(x.data) + dtype_bytes(x.dtype, first * x.row_stride), x.shape[0] = n;
      p.x = x, p.exact = true;
      p.epilogue.bias = global_data<const float>(op.bias), p.epilogue.y = block;
      product(p);
      LossArgs a = loss_of(op, count);
      a.targets += first, a.rows = n, a.vocab = vocab, a.scale = op.scale;
      a.logits.data = block.data, a.logits.stride = vocab;
      a.row_loss = losses.data() + first, a.dloss = global_data<const float>(op.dloss);
      if (gradients) a.dlogits = block;
      start(a);
    }
    Rows<const float> dlogits;
    dlogits.data = block.data, dlogits.stride = vocab;
    if (gradients)
      linear_gradients(op.x, op.weight, dlogits, first, n, op.dx, op.dweight, op.dbias, op.accumulate || first > 0);
  }
  launch(mean_loss, {1}, 32, {losses.data(), count.data(), rows, global_data<float>(op.loss)});
}

}  // namespace statespace::cuda
