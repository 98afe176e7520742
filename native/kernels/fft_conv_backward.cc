#include <cstring>

#include "backend/kernels.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/fft_conv.h"

namespace statespace::STATESPACE_ISA {
namespace {

Tensor matrix(float* data, int64_t rows, int64_t columns) {
  Tensor t;
  t.data = data, t.rank = 2;
  t.shape[0] = rows, t.shape[1] = t.row_stride = columns;
  return t;
}

// fn(t) for all tokens of a long sequence; a stop is heard on the way.
template <class Fn>
void each_token(const Context& cx, int64_t count, Fn&& fn) {
  constexpr int64_t kPiece = 1 << 14;
  for (int64_t first = 0; first < count; first += kPiece) {
    cx.check_stop();
    for (int64_t t = first; t < std::min(count, first + kPiece); ++t) fn(t);
  }
}

void reverse(Context& cx, const Tensor& from, int64_t begin, int64_t count, const Tensor& to) {
  for_row_blocks(cx, count, from[1], [&](int64_t first, int64_t last, int) {
    for (int64_t t = first; t < last; ++t)
      std::memcpy(to.row(t), from.row(begin + count - 1 - t), from[1] * sizeof(float));
  });
}

}  // namespace

// Both correlations are convolutions of dy backwards in time: with the kernel, and with x as the kernel.
template <>
void run(const FftConvBackward& op, Context& cx) {
  const int64_t channels = op.x[1], taps = op.kernel[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), op.x[0]);
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s)
    longest = std::max<int64_t>(longest, sequences.end(s) - sequences.begin(s));
  float* memory = cx.kept<float>(3 * longest * channels);
  if (op.dkernel)
    for_row_blocks(cx, ceil_div(channels * taps, kLanes), kLanes, [&](int64_t first, int64_t last, int) {
      for (int64_t i = first * kLanes; i < std::min(channels * taps, last * kLanes); ++i) op.dkernel.f32()[i] = 0;
    });
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), count = sequences.end(s) - begin;
    if (count == 0) continue;
    const Tensor back = matrix(memory, count, channels), y = matrix(memory + longest * channels, count, channels);
    const Tensor columns = matrix(memory + 2 * longest * channels, channels, count);
    reverse(cx, op.dy, begin, count, back);
    FftConv conv;
    conv.x = back, conv.y = y;
    if (op.dx) {
      conv.kernel = op.kernel, conv.D = op.D;
      run(conv, cx);
      Tensor dx = op.dx;
      dx.data = op.dx.row(begin);
      reverse(cx, y, 0, count, dx);
    }
    if (!op.dkernel) continue;
    cx.parallel_for(channels, [&](int64_t c, int) {
      each_token(cx, count, [&](int64_t t) { columns.row(c)[t] = op.x.row(begin + t)[c]; });
    });
    conv.kernel = columns, conv.D = Tensor();
    run(conv, cx);
    cx.parallel_for(channels, [&](int64_t c, int) {
      float* to = op.dkernel.row(c);
      each_token(cx, std::min(taps, count), [&](int64_t j) { to[j] += y.row(count - 1 - j)[c]; });
    });
  }
  if (!op.dD) return;
  cx.parallel_for(ceil_div(channels, kLanes), [&](int64_t i, int) {
    const int n = lanes_of(channels - i * kLanes);
    F total = zero();
    each_token(cx, op.x[0], [&](int64_t t) {
      total = fma(load(op.x.row(t) + i * kLanes, n), load(op.dy.row(t) + i * kLanes, n), total);
    });
    store(op.dD.f32() + i * kLanes, total, n);
  });
}

}  // namespace statespace::STATESPACE_ISA
