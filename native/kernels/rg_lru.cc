#include "ops/rg_lru.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/head_chunk.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "kernels/step_decay.h"
#include "kernels/streamed_rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int64_t kTokens = 64;

// One head of one sequence. Its gates' weights lie in panels where they serve for whole chunks of tokens; for fewer
// they have rows of whole vectors: where they are, or else copied.
struct Head {
  Head(const RgLru& op, int64_t head, int64_t tokens, float* scratch)
      : op(op),
        width(op.input_weight[1]),
        stride(padded(width)),
        first(head * width),
        in_panels(tokens >= kTokens),
        streamed(streams_rows({&op.gates}, {width})),
        x(scratch) {
    input = x + whole_tiles(kTokens) * stride, recurrent = input + kTokens * stride;
    input_bias = recurrent + kTokens * stride, recurrent_bias = input_bias + stride, rate = recurrent_bias + stride;
    h = rate + stride;
    input_weight = weight(op.input_weight, head, h + stride);
    recurrent_weight = weight(op.recurrent_weight, head, h + stride + panels_floats(width, width));
    read_rows(op.input_bias.row(head), 1, width, input_bias, stride);
    read_rows(op.recurrent_bias.row(head), 1, width, recurrent_bias, stride);
    read_rows(op.recurrent_param.f32() + first, 1, width, rate, stride);
    // ln(1 + e^p) = max(p, 0) + ln(1 + e^-|p|), times -8: log a of an open gate
    for (int64_t i = 0; i < stride; i += kLanes) {
      const F p = load(rate + i);
      store(rate + i, set(-8) * (max(p, zero()) + log1p(exp(zero() - abs(p)))));
    }
  }
  static int64_t scratch(const RgLru& op) {
    const int64_t width = op.input_weight[1], stride = padded(width);
    return (whole_tiles(kTokens) + 2 * kTokens + 4) * stride + 2 * panels_floats(width, width);
  }
  float* weight(const Tensor& w, int64_t head, float* copy) const {
    if (in_panels)
      read_panels(w.row(head), width, width, Columns{0, width}, copy);
    else if (width == stride)
      return w.row(head);
    else
      read_rows(w.row(head), width, width, copy, stride);
    return copy;
  }

  void run(int64_t begin, int64_t n) {
    copy_rows(op.x, begin, n, first, width, x, stride);
    gates(n, input_weight, input_bias, input);
    gates(n, recurrent_weight, recurrent_bias, recurrent);
    for (int64_t t = 0; t < n; ++t) {
      const bool reset = op.positions && op.positions.i32()[begin + t] == 0;
      const float *x_t = x + t * stride, *i_t = input + t * stride, *r_t = recurrent + t * stride;
      for (int64_t i = 0; i < stride; i += kLanes) {
        const F gate = reciprocal(load(i_t + i)), keeping = reciprocal(load(r_t + i)), gated = load(x_t + i) * gate;
        if (op.gates) {
          float* to = op.gates.row(begin + t) + first + i;
          const int m = width - i < kLanes ? int(width - i) : kLanes;
          put(to, gate, m, streamed), put(to + op.x[1], keeping, m, streamed);
        }
        if (reset) {
          store(h + i, gated);
          continue;
        }
        const F log_a = load(rate + i) * keeping;
        // 1 - a² = 2t / (1 + t) with t = tanh(-log a): no difference of near numbers where a is near 1
        const F t = tanh(zero() - log_a);
        const F kept = sqrt((t + t) * reciprocal(set(1) + t));
        store(h + i, fma(natural_step_decay(log_a), load(h + i), kept * gated));
      }
      copy_row(h, op.y.row(begin + t) + first, width);
    }
    if (streamed) end_streams();
  }

  // gate = 1 + e^-(x W + b): the sigmoid's reciprocal.
  [[gnu::flatten]] void gates(int64_t n, float* W, const float* bias, float* gate) {
    each_panel(W, width, width, [&]<int N>(int64_t column, const float* panel) {
      const float* w = in_panels ? panel : W + column;
      each_tile_of_panel<N>(n, [&](auto place) {
        Tile tile(place);
        tile.add(width, {x, stride, 1}, w, in_panels ? kPanel : stride);
        tile.each([&](int, int j, F& v) { v = sigmoid_below(v + load(bias + column + j * kLanes)); });
        tile.write(gate + column, stride);
      });
    });
  }

  const RgLru& op;
  const int64_t width, stride, first;
  const bool in_panels, streamed;
  float* x;                                   // (tokens, channels of the head)
  float *input, *recurrent;                   // the gates' reciprocals
  float *input_bias, *recurrent_bias, *rate;  // (channels)
  float* h;                                   // (channels)
  float *input_weight, *recurrent_weight;     // (channels, channels)
};

}  // namespace

template <>
void run(const RgLru& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  const int64_t nheads = op.input_weight[0];
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads;
    const int64_t tokens = sequences.end(s) - sequences.begin(s);
    Head head(op, i % nheads, tokens, cx.local<float>(worker, Head::scratch(op)));
    float* state = op.state.row(sequences.slot(s)) + head.first;
    read_rows(state, 1, head.width, head.h, head.stride);
    each_chunk(cx, sequences, s, kTokens, [&](int64_t begin, int64_t n) { head.run(begin, n); });
    copy_row(head.h, state, head.width);
  });
}

}  // namespace statespace::STATESPACE_ISA
