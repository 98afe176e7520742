#include "ops/cross_entropy.h"

#include <cmath>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/column_sums.h"
#include "kernels/matmul_gradient.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// What the ops here have in common: which rows count, and what their targets are.
struct Targets {
  const int32_t* ids;
  int64_t vocab, ignored;
  float smoothing;

  bool counts(int64_t row) const { return ids[row] != ignored && ids[row] >= 0 && ids[row] < vocab; }
  int64_t count(int64_t rows) const {
    int64_t n = 0;
    for (int64_t r = 0; r < rows; ++r) n += counts(r);
    return n;
  }
};

float log_sum_exp(const float* logits, int64_t n) {
  F top = set(-INFINITY);
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    if (m == kLanes)
      top = max(top, load(logits + c));
    else
      for (int64_t i = c; i < n; ++i) top = max(top, set(logits[i]));
  }
  const float most = max_of(top);
  F total = zero();
  const int64_t full = n - n % kLanes;
  for (int64_t c = 0; c < full; c += kLanes) total = total + exp(load(logits + c) - set(most));
  alignas(64) float rest[kLanes];
  store(rest, exp(load(logits + full, int(n - full)) - set(most)));
  float last = 0;
  for (int64_t i = 0; i < n - full; ++i) last += rest[i];
  return most + ::logf(sum(total) + last);
}

float row_loss(const Targets& targets, const float* logits, int64_t row, float lse) {
  const float own = lse - logits[targets.ids[row]];
  if (targets.smoothing == 0) return own;
  F total = zero();
  for (int64_t c = 0; c < targets.vocab; c += kLanes) {
    const int m = lanes_of(targets.vocab - c);
    total = total + load(logits + c, m);
  }
  return (1 - targets.smoothing) * own + targets.smoothing * (lse - sum(total) / float(targets.vocab));
}

// to = factor · (softmax(logits) - (1 - ε) onehot - ε / vocab); to may be logits.
void row_gradient(const Targets& targets, const float* logits, int64_t row, float lse, float factor, float* to) {
  const int64_t n = targets.vocab;
  if (!targets.counts(row)) return void(std::memset(to, 0, n * sizeof(float)));
  const F shift = set(lse), scale = set(factor), even = set(targets.smoothing / float(n));
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    store(to + c, scale * (exp(load(logits + c, m) - shift) - even), m);
  }
  to[targets.ids[row]] -= factor * (1 - targets.smoothing);
}

// The mean of the rows' losses, summed in their order.
float mean_loss(const float* losses, int64_t rows, double divisor) {
  double total = 0;
  for (int64_t r = 0; r < rows; ++r) total += losses[r];
  return divisor > 0 ? float(total / divisor) : 0;
}

// Tokens whose logits exist at once: enough to multiply at full speed, and no more than some 32 MB of them.
int64_t block_rows(int64_t rows, int64_t vocab) {
  return std::min(rows, std::clamp<int64_t>((8 << 20) / std::max<int64_t>(vocab, 1), 64, 256));
}

// Classes from `first` on that are multiplied with at once: of a table in rows some 2048 are packed.
Tensor classes_of(const Tensor& weight, int64_t first) {
  if (weight.layout != Layout::rows || is_quantised(weight.dtype)) return weight;
  const int64_t vocab = weight[0], each = ceil_div(vocab, std::max<int64_t>(1, ceil_div(vocab, 2048)));
  Tensor some = weight;
  some.data = weight.as<char>() + first * weight.row_stride * (weight.dtype == DType::f32 ? 4 : 2);
  some.shape[0] = std::min(ceil_div(each, kLanes) * kLanes, vocab - first);
  return some;
}

}  // namespace

template <>
void run(const CrossEntropy& op, Context& cx) {
  const int64_t rows = op.logits[0];
  const Targets targets{op.targets.i32(), op.logits[1], op.ignore_index, op.label_smoothing};
  float* losses = cx.shared<float>(rows);
  cx.parallel_for(rows, [&](int64_t r, int) {
    const float lse = op.lse || targets.counts(r) ? log_sum_exp(op.logits.row(r), targets.vocab) : 0;
    if (op.lse) op.lse.f32()[r] = lse;
    losses[r] = targets.counts(r) ? row_loss(targets, op.logits.row(r), r, lse) : 0;
  });
  *op.loss.f32() = mean_loss(losses, rows, double(targets.count(rows)));
}

template <>
void run(const CrossEntropyBackward& op, Context& cx) {
  if (!op.dlogits) return;
  const int64_t rows = op.logits[0];
  const Targets targets{op.targets.i32(), op.logits[1], op.ignore_index, op.label_smoothing};
  const int64_t count = targets.count(rows);
  const float factor = count ? *op.dloss.f32() / float(count) : 0;
  cx.parallel_for(rows, [&](int64_t r, int) {
    const float lse = op.lse ? op.lse.f32()[r] : targets.counts(r) ? log_sum_exp(op.logits.row(r), targets.vocab) : 0;
    row_gradient(targets, op.logits.row(r), r, lse, factor, op.dlogits.row(r));
  });
}

template <>
void run(const LinearCrossEntropy& op, Context& cx) {
  const int64_t rows = op.x[0], vocab = op.weight[0], d_model = op.weight[1];
  const int64_t most = std::max<int64_t>(1, block_rows(rows, vocab));
  const Targets all{op.targets.i32(), vocab, op.ignore_index, op.label_smoothing};
  const double divisor = op.divisor ? *op.divisor.f32() : double(all.count(rows));
  const float factor = divisor > 0 ? float((op.dloss ? *op.dloss.f32() : 1) / divisor) * op.scale : 0;
  const bool gradients = op.dx || op.dweight || op.dbias;
  // Rows a power of two apart would lie in the same few sets of the caches, of which the products take columns.
  const int64_t stride = ceil_div(vocab, 16) * 16 + 16;
  float* logits = cx.kept<float>(most * stride + rows);
  float* losses = logits + most * stride;
  Tensor block;
  block.data = logits, block.rank = 2, block.shape[1] = vocab, block.row_stride = stride;
  Rows to(block);
  for (int64_t first = 0; first == 0 || first < rows; first += most) {
    const int64_t count = std::min(most, rows - first);
    const bool add = op.accumulate || first > 0;
    block.shape[0] = count;
    Tensor x = op.x;
    x.data = op.x.as<char>() + first * op.x.row_stride * (x.dtype == DType::f32 ? 4 : 2), x.shape[0] = count;
    const int64_t bytes = std::max(matmul_scratch(classes_of(op.weight, 0), count), gradient_scratch(op.weight));
    void* scratch = cx.shared<char>(bytes);
    for (int64_t c = 0; c < vocab;) {
      const Tensor weight = classes_of(op.weight, c);
      Epilogue e;
      if (op.bias) e.bias = op.bias.f32() + c;
      Tensor columns = block;
      columns.data = logits + c;
      matmul(cx, x, count, weight, e, Rows(columns), scratch);
      c += weight[0];
    }
    const Targets targets{all.ids + first, vocab, op.ignore_index, op.label_smoothing};
    cx.parallel_for(count, [&](int64_t r, int) {
      float* row = block.row(r);
      const bool counts = targets.counts(r);
      if (op.scale != 1)
        for (int64_t c = 0; c < vocab; ++c) row[c] *= op.scale;
      const float lse = counts ? log_sum_exp(row, vocab) : 0;
      losses[first + r] = counts ? row_loss(targets, row, r, lse) : 0;
      if (gradients) row_gradient(targets, row, r, lse, factor, row);
    });
    if (op.dx) {
      Tensor dx = op.dx;
      dx.data = op.dx.row(first);
      matmul_dx(cx, to, count, op.weight, 0, dx, false, rounds_gradients(cx, op.weight), scratch);
    }
    if (op.dweight)
      matmul_dweight(cx, to, x, count, vocab, d_model, op.dweight.f32(), op.dweight.row_stride, add,
                     rounds_gradients(cx, op.weight), scratch);
    if (op.dbias) sum_rows(cx, block, op.dbias.f32(), add);
  }
  *op.loss.f32() = mean_loss(losses, rows, divisor);
}

}  // namespace statespace::STATESPACE_ISA
