#include <cmath>
#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/column_sums.h"
#include "kernels/matrix.h"
#include "kernels/rows.h"
#include "ops/implicit_filter.h"
#include "ops/linear.h"

namespace statespace::STATESPACE_ISA {
namespace {

// The network layer by layer over all positions, and back.
class FilterNetwork {
 public:
  FilterNetwork(const ImplicitFilterBackward& op, Context& cx)
      : op_(op),
        cx_(cx),
        positions_(op.z[0]),
        width_(op.freq[0]),
        channels_(op.out_weight[0]),
        layers_(1 + (op.hidden_weight ? op.hidden_weight[0] : 0)) {
    const int64_t size = positions_ * width_;
    memory_ = cx.kept<float>((2 * layers_ + 2) * size + 2 * positions_ * channels_);
    dh_ = layer_memory(2 * layers_), other_ = layer_memory(2 * layers_ + 1);
    y_ = matrix(memory_ + (2 * layers_ + 2) * size, positions_, channels_);
    dy_ = matrix(y_.f32() + y_.size(), positions_, channels_);
  }

  void forward() {
    for (int64_t i = 0; i < layers_; ++i) {
      Linear layer;
      layer.x = i == 0 ? op_.z : h(i - 1), layer.weight = weight(i), layer.y = p(i);
      layer.bias = i == 0 ? op_.in_bias : part(op_.hidden_bias, i - 1);
      run(layer, cx_);
      each_row([&](int64_t l) {
        for (int64_t j = 0; j < width_; ++j) h(i).row(l)[j] = float(std::sin(angle(i, l, j)));
      });
    }
    Linear out;
    out.x = h(layers_ - 1), out.weight = op_.out_weight, out.y = y_;
    if (op_.deltas && (op_.ddeltas || op_.dt)) run(out, cx_);
  }

  void backward() {
    each_row([&](int64_t l) {
      for (int64_t c = 0; c < channels_; c += kLanes) {
        const int m = lanes_of(channels_ - c);
        F window = set(1.f);
        if (op_.deltas) window = decay(l, c, m) + set(op_.shift);
        store(dy_.row(l) + c, window * load(op_.dkernel.row(l) + c, m), m);
      }
    });
    if (op_.deltas && (op_.ddeltas || op_.dt)) window_gradients();
    LinearBackward out;
    out.x = h(layers_ - 1), out.weight = op_.out_weight, out.dy = dy_, out.dx = dh_, out.dweight = op_.dout_weight;
    run(out, cx_);
    for (int64_t i = layers_ - 1; i >= 0; --i) {
      through_sine(i);  // dh_ becomes that of p
      LinearBackward layer;
      layer.x = i == 0 ? op_.z : h(i - 1), layer.weight = weight(i), layer.dy = dh_;
      layer.dx = i == 0 ? op_.dz : other_;
      layer.dweight = i == 0 ? op_.din_weight : part(op_.dhidden_weight, i - 1);
      layer.dbias = i == 0 ? op_.din_bias : part(op_.dhidden_bias, i - 1);
      run(layer, cx_);
      const Tensor last = dh_;
      dh_ = other_, other_ = last;
    }
  }

 private:
  Tensor layer_memory(int64_t i) const { return matrix(memory_ + i * positions_ * width_, positions_, width_); }
  Tensor p(int64_t i) const { return layer_memory(2 * i); }
  Tensor h(int64_t i) const { return layer_memory(2 * i + 1); }
  Tensor weight(int64_t i) const { return i == 0 ? op_.in_weight : part(op_.hidden_weight, i - 1); }
  // What an inner layer has of the tensors of all.
  static Tensor part(const Tensor& all, int64_t i) {
    if (!all) return Tensor();
    Tensor t;
    t.data = all.row(i), t.rank = all.rank - 1;
    for (int axis = 0; axis < t.rank; ++axis) t.shape[axis] = all[axis + 1];
    t.row_stride = t.row_size();
    return t;
  }
  double angle(int64_t i, int64_t l, int64_t j) const { return op_.freq.f32()[j] * p(i).row(l)[j]; }
  // e^{-t|deltas|}
  F decay(int64_t l, int64_t c, int m) const {
    return exp(zero() - set(op_.t.f32()[l]) * abs(load(op_.deltas.f32() + c, m)));
  }
  template <class Fn>
  void each_row(Fn&& fn) const {
    constexpr int64_t kRows = 16;
    cx_.parallel_for(ceil_div(positions_, kRows), [&](int64_t piece, int) {
      cx_.check_stop();
      for (int64_t l = piece * kRows; l < std::min(positions_, (piece + 1) * kRows); ++l) fn(l);
    });
  }

  void window_gradients() {
    ColumnSums sums(cx_, positions_, channels_);
    sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
      for (int64_t l = begin; l < end; ++l) {
        F of_t = zero();
        for (int64_t c = 0; c < channels_; c += kLanes) {
          const int m = lanes_of(channels_ - c);
          const F delta = load(op_.deltas.f32() + c, m);
          const F q = decay(l, c, m) * load(y_.row(l) + c, m) * load(op_.dkernel.row(l) + c, m);
          of_t = fma(abs(delta), q, of_t);
          const F sign = select(less(delta, zero()), set(1.f), select(less(zero(), delta), set(-1.f), zero()));
          store(part + c, fma(sign * set(op_.t.f32()[l]), q, load(part + c, m)), m);
        }
        if (op_.dt) op_.dt.f32()[l] = -sum(of_t);
      }
    });
    if (op_.ddeltas) sums.write(0, channels_, op_.ddeltas.f32());
  }

  void through_sine(int64_t i) {
    ColumnSums sums(cx_, positions_, width_);
    sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
      for (int64_t l = begin; l < end; ++l)
        for (int64_t j = 0; j < width_; ++j) {
          float* dh = dh_.row(l) + j;
          const float slope = float(std::cos(angle(i, l, j))) * *dh;
          part[j] += slope * p(i).row(l)[j];
          *dh = slope * op_.freq.f32()[j];
        }
    });
    if (op_.dfreq) sums.write(0, width_, op_.dfreq.f32(), i < layers_ - 1);
  }

  const ImplicitFilterBackward& op_;
  Context& cx_;
  const int64_t positions_, width_, channels_, layers_;
  float* memory_;
  Tensor dh_, other_, y_, dy_;
};

}  // namespace

template <>
void run(const ImplicitFilterBackward& op, Context& cx) {
  FilterNetwork network(op, cx);
  network.forward();
  network.backward();
  if (op.deltas) return;
  if (op.dt) std::memset(op.dt.data, 0, size_t(op.dt.bytes()));
}

}  // namespace statespace::STATESPACE_ISA
