#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/matmul_gradient.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/rg_lru.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int64_t kChannels = 64;  // of a piece of the recurrence

// (tokens, channels) each: the gates before their sigmoids, then the gates, then the gradients of what they were made
// of; and the states.
struct Gates {
  float *input, *recurrent, *h;
};

// Of every sequence, (sequences, channels): sums over its tokens.
struct Sums {
  float *input_bias, *recurrent_bias, *rate;
};

// log a of an open gate, -8 softplus(p).
F rate(F p) { return set(-8) * (max(p, zero()) + log1p(exp(zero() - abs(p)))); }

// A vector of channels, from `c` on, of one sequence.
class Channels {
 public:
  Channels(const RgLruBackward& op, const Gates& gates, int64_t c, int64_t end)
      : op_(op),
        gates_(gates),
        width_(op.x[1]),
        c_(c),
        m_(lanes_of(end - c)),
        rate_(rate(load(op.recurrent_param.f32() + c, m_))) {}

  void run(int64_t sequence, int64_t begin, int64_t end, const Sums& sums) const {
    const F first = op_.initial_state ? load(op_.initial_state.row(sequence) + c_, m_) : zero();
    forward(begin, end, first);
    F carried = op_.dlast_state ? load(op_.dlast_state.row(sequence) + c_, m_) : zero();
    F input_bias = zero(), recurrent_bias = zero(), drate = zero();
    for (int64_t t = end - 1; t >= begin; --t) {
      const F x = load(op_.x.row(t) + c_, m_), i = of(gates_.input, t), r = of(gates_.recurrent, t);
      const F upstream = load(op_.dy.row(t) + c_, m_) + carried;
      F kept = set(1), slope = zero();
      carried = zero();
      if (!anew(t)) {
        const F before = t > begin ? of(gates_.h, t - 1) : first, a = exp(rate_ * r);
        kept = kept_by(rate_ * r);
        slope = upstream * (a * before - i * x * a * a * reciprocal(max(kept, set(1 / 2000.f))));
        carried = a * upstream;
      }
      const F gated = upstream * kept;
      if (op_.dx) store(op_.dx.row(t) + c_, gated * i, m_);
      const F di = gated * x * i * (set(1) - i), dr = slope * rate_ * r * (set(1) - r);
      put(gates_.input, t, di);
      put(gates_.recurrent, t, dr);
      input_bias = input_bias + di, recurrent_bias = recurrent_bias + dr;
      drate = fma(slope, r, drate);
    }
    const int64_t at = sequence * width_ + c_;
    store(sums.input_bias + at, input_bias, m_);
    store(sums.recurrent_bias + at, recurrent_bias, m_);
    store(sums.rate + at, drate, m_);
    if (op_.dinitial_state) store(op_.dinitial_state.row(sequence) + c_, carried, m_);
  }

 private:
  F of(const float* rows, int64_t t) const { return load(rows + t * width_ + c_, m_); }
  void put(float* rows, int64_t t, F x) const { store(rows + t * width_ + c_, x, m_); }
  bool anew(int64_t t) const { return op_.positions && op_.positions.i32()[t] == 0; }
  // sqrt(1 - a²), as the forward has it.
  static F kept_by(F log_a) {
    const F t = tanh(zero() - log_a);
    return sqrt((t + t) * reciprocal(set(1) + t));
  }

  // The gates out of their sigmoids, and the states.
  void forward(int64_t begin, int64_t end, F h) const {
    const F of_input = load(op_.input_bias.f32() + c_, m_), of_recurrent = load(op_.recurrent_bias.f32() + c_, m_);
    for (int64_t t = begin; t < end; ++t) {
      const F i = sigmoid(of(gates_.input, t) + of_input), r = sigmoid(of(gates_.recurrent, t) + of_recurrent);
      put(gates_.input, t, i);
      put(gates_.recurrent, t, r);
      const F gated = i * load(op_.x.row(t) + c_, m_);
      h = anew(t) ? gated : fma(exp(rate_ * r), h, kept_by(rate_ * r) * gated);
      put(gates_.h, t, h);
    }
  }

  const RgLruBackward& op_;
  const Gates& gates_;
  const int64_t width_, c_;
  const int m_;
  const F rate_;
};

// Columns of one head.
Rows head_of(float* data, int64_t stride, int64_t first) {
  Rows rows;
  rows.data = data + first, rows.stride = stride;
  return rows;
}

}  // namespace

template <>
void run(const RgLruBackward& op, Context& cx) {
  const int64_t tokens = op.x[0], width = op.x[1], nheads = op.input_weight[0], headdim = op.input_weight[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const int64_t own = sequences.count * width;
  Gates gates;
  gates.input = cx.kept<float>(3 * tokens * width + 3 * own);
  gates.recurrent = gates.input + tokens * width, gates.h = gates.recurrent + tokens * width;
  Sums sums;
  sums.input_bias = gates.h + tokens * width, sums.recurrent_bias = sums.input_bias + own;
  sums.rate = sums.recurrent_bias + own;

  const Tensor* weights[] = {&op.input_weight, &op.recurrent_weight};
  float* rows[] = {gates.input, gates.recurrent};
  int64_t bytes = 0;
  for (const Tensor* w : weights) bytes = std::max({bytes, gradient_scratch(*w), matmul_scratch(*w, tokens)});
  char* scratch = cx.shared<char>(bytes);
  const auto x_of = [&](int64_t head) { return head_of(op.x.f32(), op.x.row_stride, head * headdim); };

  // x W is what matmul_dx() makes of a weight with outputs in its rows, and dW of the gradients of its results.
  for (int64_t h = 0; h < nheads; ++h)
    for (int gate = 0; gate < 2; ++gate)
      matmul_dx(cx, x_of(h), tokens, *weights[gate], h, head_of(rows[gate], width, h * headdim), false, false, scratch);
  const int64_t blocks = ceil_div(width, kChannels);
  cx.parallel_for(sequences.count * blocks, [&](int64_t piece, int) {
    const int64_t s = piece / blocks, first = piece % blocks * kChannels, end = std::min(width, first + kChannels);
    for (int64_t c = first; c < end; c += kLanes) {
      cx.check_stop();
      Channels(op, gates, c, end).run(s, sequences.begin(s), sequences.end(s), sums);
    }
  });
  const Tensor* gradients[] = {&op.dinput_weight, &op.drecurrent_weight};
  for (int64_t h = 0; h < nheads; ++h)
    for (int gate = 0; gate < 2; ++gate) {
      const Rows of_gate = head_of(rows[gate], width, h * headdim);
      if (*gradients[gate])
        matmul_dweight(cx, x_of(h), of_gate, tokens, headdim, headdim, gradients[gate]->row(h), headdim, false, false,
                       scratch);
      if (!op.dx) continue;
      Epilogue more;
      more.residual = head_of(op.dx.f32(), op.dx.row_stride, h * headdim);
      matmul(cx, of_gate, tokens, *weights[gate], h, more, more.residual, scratch);
    }
  const auto over_sequences = [&](const float* from, const Tensor& to, auto&& finish) {
    for (int64_t c = 0; to && c < width; c += kLanes) {
      const int m = lanes_of(width - c);
      F total = zero();
      for (int64_t s = 0; s < sequences.count; ++s) total = total + load(from + s * width + c, m);
      store(to.f32() + c, finish(total, c, m), m);
    }
  };
  const auto as_is = [](F total, int64_t, int) { return total; };
  over_sequences(sums.input_bias, op.dinput_bias, as_is);
  over_sequences(sums.recurrent_bias, op.drecurrent_bias, as_is);
  over_sequences(sums.rate, op.drecurrent_param, [&](F total, int64_t c, int m) {
    return set(-8) * total * sigmoid(load(op.recurrent_param.f32() + c, m));
  });
}

}  // namespace statespace::STATESPACE_ISA
