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

// Channels [first, end) of one sequence, a row of them after the other: one vector alone would take a page for every
// token of every tensor.
class Channels {
 public:
  Channels(const RgLruBackward& op, const Gates& gates, int64_t first, int64_t end)
      : op_(op), gates_(gates), width_(op.x[1]), first_(first), end_(end) {
    each([&](int64_t c, int m) { store(at(rate_, c), rate(load(op.recurrent_param.f32() + c, m))); });
  }

  void run(const Context& cx, int64_t sequence, int64_t begin, int64_t end, const Sums& sums) {
    each([&](int64_t c, int m) {
      store(at(first_state_, c), op_.initial_state ? load(op_.initial_state.row(sequence) + c, m) : zero());
      store(at(state_, c), load(at(first_state_, c)));
    });
    for (int64_t t = begin; t < end; ++t) {
      if (t % 64 == 0) cx.check_stop();
      each([&](int64_t c, int m) { forward(t, c, m); });
    }
    float* const own[] = {sums.input_bias, sums.recurrent_bias, sums.rate};
    each([&](int64_t c, int m) {
      store(at(state_, c), op_.dlast_state ? load(op_.dlast_state.row(sequence) + c, m) : zero());
      for (auto& sum : sums_) store(at(sum, c), zero());
    });
    for (int64_t t = end - 1; t >= begin; --t) {
      if (t % 64 == 0) cx.check_stop();
      each([&](int64_t c, int m) { backward(t, t == begin, c, m); });
    }
    each([&](int64_t c, int m) {
      for (int i = 0; i < 3; ++i) store(own[i] + sequence * width_ + c, load(at(sums_[i], c)), m);
      if (op_.dinitial_state) store(op_.dinitial_state.row(sequence) + c, load(at(state_, c)), m);
    });
  }

 private:
  template <class Fn>
  void each(Fn&& fn) const {
    for (int64_t c = first_; c < end_; c += kLanes) fn(c, lanes_of(end_ - c));
  }
  float* at(float* values, int64_t c) const { return values + c - first_; }
  F of(const float* rows, int64_t t, int64_t c, int m) const { return load(rows + t * width_ + c, m); }
  void put(float* rows, int64_t t, int64_t c, F x, int m) const { store(rows + t * width_ + c, x, m); }
  bool anew(int64_t t) const { return op_.positions && op_.positions.i32()[t] == 0; }
  // sqrt(1 - a²), as the forward has it.
  static F kept_by(F log_a) {
    const F t = tanh(zero() - log_a);
    return sqrt((t + t) * reciprocal(set(1) + t));
  }

  // The gates out of their sigmoids, and the state.
  void forward(int64_t t, int64_t c, int m) {
    const F i = sigmoid(of(gates_.input, t, c, m) + load(op_.input_bias.f32() + c, m));
    const F r = sigmoid(of(gates_.recurrent, t, c, m) + load(op_.recurrent_bias.f32() + c, m));
    put(gates_.input, t, c, i, m);
    put(gates_.recurrent, t, c, r, m);
    const F gated = i * load(op_.x.row(t) + c, m), log_a = load(at(rate_, c)) * r;
    const F h = anew(t) ? gated : fma(exp(log_a), load(at(state_, c)), kept_by(log_a) * gated);
    store(at(state_, c), h);
    put(gates_.h, t, c, h, m);
  }

  // `state_` holds what the later tokens give the state of this one.
  void backward(int64_t t, bool begins, int64_t c, int m) {
    const F x = load(op_.x.row(t) + c, m), i = of(gates_.input, t, c, m), r = of(gates_.recurrent, t, c, m);
    const F upstream = load(op_.dy.row(t) + c, m) + load(at(state_, c)), rate = load(at(rate_, c));
    F kept = set(1), slope = zero(), carried = zero();
    if (!anew(t)) {
      const F before = begins ? load(at(first_state_, c)) : of(gates_.h, t - 1, c, m), a = exp(rate * r);
      kept = kept_by(rate * r);
      slope = upstream * (a * before - i * x * a * a * reciprocal(max(kept, set(1 / 2000.f))));
      carried = a * upstream;
    }
    store(at(state_, c), carried);
    const F gated = upstream * kept;
    if (op_.dx) store(op_.dx.row(t) + c, gated * i, m);
    const F di = gated * x * i * (set(1) - i), dr = slope * rate * r * (set(1) - r);
    put(gates_.input, t, c, di, m);
    put(gates_.recurrent, t, c, dr, m);
    const F terms[] = {di, dr, slope * r};
    for (int k = 0; k < 3; ++k) store(at(sums_[k], c), load(at(sums_[k], c)) + terms[k]);
  }

  const RgLruBackward& op_;
  const Gates& gates_;
  const int64_t width_, first_, end_;
  float rate_[kChannels], first_state_[kChannels], state_[kChannels];
  float sums_[3][kChannels];  // of the gates' biases, and of log a by its rate
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
    Channels(op, gates, first, end).run(cx, s, sequences.begin(s), sequences.end(s), sums);
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
