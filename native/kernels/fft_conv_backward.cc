#include <cstring>

#include "backend/kernels.h"
#include "kernels/column_sums.h"
#include "kernels/fft_columns.h"
#include "kernels/fft_conv_gradient.h"
#include "kernels/matrix.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/fft_conv.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Both correlations are convolutions of dy backwards in time: with the kernel, and with x as the kernel. One transform
// of dy serves both.
//   dx_{L-1-t} = Σ_s kernel_s dy_{L-1-t+s} + D dy_{L-1-t},   dkernel_{L-1-t} = Σ_s x_s dy_{L-1-t+s}

// Channels [first, first + lanes) of the op.
class Columns {
 public:
  Columns(const FftConvBackward& op, const FftTables& tables, int64_t block)
      : op_(op),
        tables_(tables),
        first_(block * kLanes),
        lanes_(lanes_of(op.x[1] - first_)),
        taps_(op.kernel[1]),
        skip_(op.D ? load(op.D.f32() + first_, lanes_) : zero()) {}

  // spectrum: that of dy; of_kernel: that of the kernel, of `transformed` points where it is there already, and may be
  // `product`, whose points are written over. All of m points.
  void run(int64_t start, int64_t length, int64_t m, float* spectrum, float* of_kernel, float* product) {
    const Signal dy{op_.dy, start, length, first_, lanes_, true};
    const Signal x{op_.x, start, length, first_, lanes_};
    const Taps taps{op_.kernel, taps_, first_, lanes_, {}};
    const bool finite_dy = transform(tables_, spectrum, m, 1, dy);
    if (op_.dx) {
      if (transformed_ != m) finite_taps_ = transform(tables_, of_kernel, m, 1 / float(m), taps);
      transformed_ = product == of_kernel ? 0 : m;
      convolve(spectrum, of_kernel, product, m);
      results(dy, taps, taps_, finite_dy && finite_taps_, product, m, [&](int64_t t, F value) {
        const int64_t row = start + length - 1 - t;
        store(op_.dx.row(row) + first_, fma(skip_, load(op_.dy.row(row) + first_, lanes_), value), lanes_);
      });
    }
    if (!op_.dkernel) return;
    const bool finite_x = transform(tables_, product, m, 1 / float(m), x);
    convolve(spectrum, product, product, m);
    results(dy, x, length, finite_dy && finite_x, product, m,
            [&](int64_t t, F value) { store(product + t * kPoint, value); });
    add_to_kernel(std::min(taps_, length), [&](int64_t j) { return load(product + (length - 1 - j) * kPoint); });
  }

  // A short sequence as its formula.
  void direct(int64_t start, int64_t length) {
    const auto value = [&](const Tensor& rows, int64_t t) { return load(rows.row(start + t) + first_, lanes_); };
    if (op_.dx) {
      alignas(64) float kernel[kSummedLength * kLanes];
      const int64_t count = std::min(taps_, length);
      Taps taps{op_.kernel, taps_, first_, lanes_, {}};
      for (int64_t s = 0; s < count; ++s) store(kernel + s * kLanes, taps(s));
      for (int64_t t = 0; t < length; ++t) {
        F dx = skip_ * value(op_.dy, t);
        for (int64_t s = 0; s < count && t + s < length; ++s)
          dx = fma(load(kernel + s * kLanes), value(op_.dy, t + s), dx);
        store(op_.dx.row(start + t) + first_, dx, lanes_);
      }
    }
    if (!op_.dkernel) return;
    add_to_kernel(std::min(taps_, length), [&](int64_t j) {
      F total = zero();
      for (int64_t t = j; t < length; ++t) total = fma(value(op_.dy, t), value(op_.x, t - j), total);
      return total;
    });
  }

 private:
  void convolve(const float* a, const float* b, float* to, int64_t m) const {
    multiply_points(a, b, to, 0, m);
    inverse_fft(tables_, to, m);
  }

  // fn(t, value) for the values of a convolution of dy with `count` taps.
  template <class Taps, class Fn>
  void results(Signal dy, const Taps& taps, int64_t count, bool finite, const float* points, int64_t m, Fn&& fn) const {
    if (finite) {
      for (int64_t t = 0; t < dy.length; ++t) fn(t, value_of(tables_, points, t, m));
      return;
    }
    Reach reach(count, zero(), first_not_finite(count, taps));
    for (int64_t t = 0; t < dy.length; ++t) fn(t, reach(t, dy(t), value_of(tables_, points, t, m)));
  }

  // dkernel_j += values(j) for j < count, by squares.
  template <class Values>
  void add_to_kernel(int64_t count, Values&& values) const {
    for (int64_t j = 0; j < count; j += kLanes) {
      const int n = lanes_of(count - j);
      F square[kLanes];
      for (int i = 0; i < kLanes; ++i) square[i] = i < n ? values(j + i) : zero();
      transpose(square);
      for (int l = 0; l < lanes_; ++l) {
        float* to = op_.dkernel.row(first_ + l) + j;
        store(to, load(to, n) + square[l], n);
      }
    }
  }

  const FftConvBackward& op_;
  const FftTables& tables_;
  const int64_t first_;
  const int lanes_;
  const int64_t taps_;
  const F skip_;
  int64_t transformed_ = 0;
  bool finite_taps_ = true;
};

void by_channels(const FftConvBackward& op, const Sequences& sequences, int64_t longest, Context& cx) {
  const int64_t size = longest > kSummedLength ? points(longest) : 0;
  const FftTables tables(cx.shared<float>(FftTables::floats(size)), size);
  fill_tables(tables, cx);
  cx.parallel_for(ceil_div(op.x[1], kLanes), [&](int64_t block, int worker) {
    // One sequence needs the kernel's spectrum once: two arrays leave the second-level cache room.
    const int64_t arrays = sequences.count > 1 ? 3 : 2;
    float* spectrum = cx.local<float>(worker, arrays * size * kPoint);
    float* product = spectrum + size * kPoint;
    float* of_kernel = product + (arrays - 2) * size * kPoint;
    Columns columns(op, tables, block);
    if (op.dkernel)
      for (int64_t c = block * kLanes; c < std::min(op.x[1], (block + 1) * kLanes); ++c)
        std::memset(op.dkernel.row(c), 0, op.kernel[1] * sizeof(float));
    for (int64_t s = 0; s < sequences.count; ++s) {
      cx.check_stop();
      const int64_t start = sequences.begin(s), length = sequences.end(s) - start;
      if (length <= kSummedLength)
        columns.direct(start, length);
      else if (const int64_t m = points(length); m <= kOwnPoints)
        columns.run(start, length, m, spectrum, of_kernel, product);
    }
  });
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

// A sequence whose transforms the threads share: by the forward, of dy turned around. memory: three times its values.
void long_sequence(const FftConvBackward& op, int64_t begin, int64_t count, float* memory, Context& cx) {
  const int64_t channels = op.x[1], taps = op.kernel[1];
  const Tensor back = matrix(memory, count, channels), y = matrix(memory + count * channels, count, channels);
  const Tensor columns = matrix(memory + 2 * count * channels, channels, count);
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
  if (!op.dkernel) return;
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

// The longest sequences of those that a thread holds, and of those that threads share.
struct Longest {
  int64_t held = 0, shared = 0;
  explicit Longest(const Sequences& sequences) {
    for (int64_t s = 0; s < sequences.count; ++s) {
      const int64_t length = sequences.end(s) - sequences.begin(s);
      int64_t& largest = points(length) > kOwnPoints ? shared : held;
      largest = std::max(largest, length);
    }
  }
};

}  // namespace

int64_t fft_conv_gradient_floats(const Tensor& x, const Tensor& cu_seqlens) {
  return 3 * Longest(Sequences(cu_seqlens, Tensor(), x[0])).shared * x[1];
}

void fft_conv_gradient(const FftConvBackward& op, float* memory, Context& cx) {
  const int64_t channels = op.x[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), op.x[0]);
  if (op.dD) {
    ColumnSums sums(cx, op.x[0], channels);
    sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
      for (int64_t t = begin; t < end; ++t)
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int n = lanes_of(channels - c);
          store(part + c, fma(load(op.x.row(t) + c, n), load(op.dy.row(t) + c, n), load(part + c, n)), n);
        }
    });
    sums.write(0, channels, op.dD.f32());
  }
  if (!op.dx && !op.dkernel) return;
  const Longest longest(sequences);
  by_channels(op, sequences, longest.held, cx);
  if (longest.shared == 0) return;
  for (int64_t s = 0; s < sequences.count; ++s)
    if (const int64_t begin = sequences.begin(s), length = sequences.end(s) - begin; points(length) > kOwnPoints)
      long_sequence(op, begin, length, memory, cx);
}

template <>
void run(const FftConvBackward& op, Context& cx) {
  fft_conv_gradient(op, cx.kept<float>(fft_conv_gradient_floats(op.x, op.cu_seqlens)), cx);
}

}  // namespace statespace::STATESPACE_ISA
