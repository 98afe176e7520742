#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "kernels/streamed_rows.h"
#include "ops/rg_lru.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int64_t kTokens = 64;
// Depth of the products with weights: so much of a panel stays in the first-level cache while all tokens pass by.
constexpr int64_t kDepth = 128;

// Rows a power of two apart would fall on few sets of the first-level cache.
int64_t row_stride(int64_t width) { return padded(width) + (padded(width) % 64 == 0 ? 16 : 0); }

// One head, over all sequences, in chunks of tokens from the last to the first: the recurrence, and while a chunk's
// rows are near, what they give x through the gates, and the weights.
class Head {
 public:
  Head(const RgLruBackward& op, int64_t head, float* memory)
      : op_(op),
        head_(head),
        width_(op.input_weight[1]),
        first_(head * width_),
        stride_(row_stride(width_)),
        streamed_(streams_rows({&op.dx}, {width_})) {
    float* next = memory;
    const auto take = [&](int64_t n) {
      float* from = next;
      next += ceil_div(n, 16) * 16;
      return from;
    };
    for (float** rows : {&x_, &dx_, &d_[0], &d_[1]}) *rows = take(whole_tiles(kTokens) * stride_ + kRows);
    for (float** vector : {&rate_, &first_state_, &state_, &sums_[0], &sums_[1], &sums_[2]}) *vector = take(stride_);
    for (float*& panels : dW_) panels = take(panels_floats(width_, width_));
    std::memset(memory, 0, (next - memory) * sizeof(float));
    const Tensor* weights[] = {&op.input_weight, &op.recurrent_weight};
    for (int gate = 0; gate < 2; ++gate) {
      WT_[gate] = take(panels_floats(width_, width_));
      Tensor W = *weights[gate];
      W.data = W.row(head), W.row_stride = width_;
      each_panel(WT_[gate], width_, {0, width_}, [&]<int N>(int64_t column, float* panel) {
        copy_transposed(W, column, std::min(kPanel, width_ - column), 0, width_, panel, kPanel);
      });
    }
    // log a of an open gate, -8 softplus(p)
    channels([&](int64_t c, int m) {
      const F p = load(op.recurrent_param.f32() + first_ + c, m);
      store(rate_ + c, set(-8) * (max(p, zero()) + log1p(exp(zero() - abs(p)))));
    });
  }
  static int64_t floats(const RgLruBackward& op) {
    const int64_t width = op.input_weight[1], stride = row_stride(width);
    return 4 * (whole_tiles(kTokens) * stride + kRows) + 6 * stride + 4 * panels_floats(width, width) + 16 * 16;
  }

  void run(const Context& cx, int64_t sequence, int64_t begin, int64_t end) {
    const auto state_of = [&](const Tensor& t) { return t.row(sequence) + first_; };
    clear(state_, stride_), clear(first_state_, stride_);
    if (op_.initial_state) copy_row(state_of(op_.initial_state), first_state_, width_);
    if (op_.dlast_state) copy_row(state_of(op_.dlast_state), state_, width_);
    for (int64_t last = end; last > begin;) {
      cx.check_stop();
      const int64_t from = begin + (last - 1 - begin) / kTokens * kTokens;
      for (int64_t t = last - 1; t >= from; --t) token(t, t - from, t == begin);
      products(from, last - from, std::max(begin, from - kTokens));
      last = from;
    }
    if (op_.dinitial_state) copy_row(state_, state_of(op_.dinitial_state), width_);
  }

  // What is summed over all tokens.
  void finish() {
    const Tensor* weights[] = {&op_.dinput_weight, &op_.drecurrent_weight};
    const Tensor* biases[] = {&op_.dinput_bias, &op_.drecurrent_bias};
    for (int gate = 0; gate < 2; ++gate) {
      if (*weights[gate]) write_panels(dW_[gate], width_, width_, {0, width_}, weights[gate]->row(head_));
      if (*biases[gate]) copy_row(sums_[gate], biases[gate]->row(head_), width_);
    }
    if (!op_.drecurrent_param) return;
    channels([&](int64_t c, int m) {
      const F p = load(op_.recurrent_param.f32() + first_ + c, m);
      store(op_.drecurrent_param.f32() + first_ + c, set(-8) * load(sums_[2] + c) * sigmoid(p), m);
    });
  }

 private:
  // fn(offset in the head, lanes) over its channels.
  template <class Fn>
  void channels(Fn&& fn) const {
    for (int64_t c = 0; c < width_; c += kLanes) fn(c, width_ - c < kLanes ? int(width_ - c) : kLanes);
  }
  // sqrt(1 - a²), as the forward has it.
  static F kept_by(F log_a) {
    const F t = tanh(zero() - log_a);
    return sqrt((t + t) * reciprocal(set(1) + t));
  }

  // Token t, in row `row` of the chunk: the gradients of x besides that through the gates, and of what these were made
  // of. `state_` holds what the later tokens give the state of this one.
  void token(int64_t t, int64_t row, bool begins) {
    const float *x_t = op_.x.row(t) + first_, *dy_t = op_.dy.row(t) + first_, *i_t = op_.gates.row(t) + first_;
    const float *r_t = i_t + op_.x[1], *before_t = begins ? first_state_ : op_.y.row(t - 1) + first_;
    const bool anew = op_.positions && op_.positions.i32()[t] == 0;
    const int64_t at = row * stride_;
    channels([&](int64_t c, int m) {
      const F x = load(x_t + c, m), i = load(i_t + c, m), r = load(r_t + c, m), rate = load(rate_ + c);
      const F upstream = load(dy_t + c, m) + load(state_ + c);
      F kept = set(1), slope = zero(), carried = zero();
      if (!anew) {
        const F before = load(before_t + c, m), log_a = rate * r, a = exp(log_a);
        kept = kept_by(log_a);
        slope = upstream * (a * before - i * x * a * a * reciprocal(max(kept, set(1 / 2000.f))));
        carried = a * upstream;
      }
      store(state_ + c, carried);
      const F gated = upstream * kept;
      const F di = gated * x * i * (set(1) - i), dr = slope * rate * r * (set(1) - r);
      store(x_ + at + c, x), store(dx_ + at + c, gated * i);
      store(d_[0] + at + c, di), store(d_[1] + at + c, dr);
      const F terms[] = {di, dr, slope * r};
      for (int k = 0; k < 3; ++k) store(sums_[k] + c, load(sums_[k] + c) + terms[k]);
    });
  }

  // dW += xᵀ d and dx += d Wᵀ of both gates, for the chunk's n tokens; the one before them begins at `next`.
  [[gnu::flatten]] void products(int64_t from, int64_t n, int64_t next) {
    Fetch fetch({next, from, head_});
    for (const Tensor* rows : {&op_.x, &op_.y, &op_.dy, &op_.gates}) fetch.add(*rows, first_, width_);
    fetch.add(op_.gates, op_.x[1] + first_, width_);
    for (int gate = 0; gate < 2; ++gate)
      if (gate ? op_.drecurrent_weight : op_.dinput_weight)
        each_panel(dW_[gate], width_, {0, width_}, [&]<int N>(int64_t column, float* panel) {
          each_tile_of_panel<N>(width_, [&](auto place) {
            Tile tile(place);
            tile.read(panel, kPanel);
            tile.add(n, {x_, 1, stride_}, d_[gate] + column, stride_, [&] { fetch.line(); });
            tile.write(panel, kPanel);
          });
        });
    for (int64_t panel = 0, column = 0; op_.dx && column < width_; column += kPanel, panel += panel_floats(width_))
      width_ - column > kLanes ? of_x<2>(from, n, column, panel, fetch) : of_x<1>(from, n, column, panel, fetch);
    fetch.rest();
    if (streamed_) end_streams();
  }

  // Columns of dx from `column` on.
  template <int N>
  [[gnu::always_inline]] void of_x(int64_t from, int64_t n, int64_t column, int64_t panel, Fetch& fetch) {
    for (int gate = 0; gate < 2; ++gate)
      for (int64_t k = 0; k < width_; k += kDepth) {
        const bool last = gate == 1 && k + kDepth >= width_;
        each_tile_of_panel<N>(n, [&](auto place) {
          Tile tile(place);
          tile.read(dx_ + column, stride_);
          tile.add(std::min(kDepth, width_ - k), {d_[gate] + k, stride_, 1}, WT_[gate] + panel + k * kPanel, kPanel,
                   [&] { fetch.line(); });
          if (!last) return tile.write(dx_ + column, stride_);
          float* to = op_.dx.row(from) + first_ + column;
          if (!streamed_) return tile.write(to, op_.dx.row_stride, width_ - column);
          tile.each([&](int i, int j, F& x) {
            if (i < tile.rows) stream(tile.place(to, i, j, op_.dx.row_stride), x);
          });
        });
      }
  }

  const RgLruBackward& op_;
  const int64_t head_, width_, first_, stride_;
  const bool streamed_;
  float *x_, *dx_, *d_[2];               // (tokens, channels): d of what the gates were made of
  float *rate_, *first_state_, *state_;  // (channels)
  float* sums_[3];                       // (channels): of the gates' biases, and of log a by its rate
  float *dW_[2], *WT_[2];                // panels: (in, out), (out, in)
};

}  // namespace

template <>
void run(const RgLruBackward& given, Context& cx) {
  RgLruBackward op = given;
  const int64_t tokens = op.x[0], width = op.x[1], nheads = op.input_weight[0];
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  if (!op.y || !op.gates) {
    RgLru forward;
    forward.x = op.x, forward.positions = op.positions, forward.cu_seqlens = op.cu_seqlens;
    forward.input_weight = op.input_weight, forward.input_bias = op.input_bias;
    forward.recurrent_weight = op.recurrent_weight, forward.recurrent_bias = op.recurrent_bias;
    forward.recurrent_param = op.recurrent_param;
    float* memory = cx.kept<float>((3 * tokens + sequences.count) * width);
    const auto rows = [&](int64_t count, int64_t size) {
      Tensor t;
      t.data = memory, t.rank = 2, t.shape[0] = count, t.shape[1] = t.row_stride = size;
      memory += t.size();
      return t;
    };
    op.y = forward.y = rows(tokens, width);
    op.gates = forward.gates = rows(tokens, 2 * width);
    forward.state = rows(sequences.count, width);
    for (int64_t s = 0; s < sequences.count; ++s)
      op.initial_state ? copy_row(op.initial_state.row(s), forward.state.row(s), width)
                       : clear(forward.state.row(s), width);
    run(forward, cx);
  }
  cx.parallel_for(nheads, [&](int64_t h, int worker) {
    Head head(op, h, cx.local<float>(worker, Head::floats(op)));
    for (int64_t s = 0; s < sequences.count; ++s) head.run(cx, s, sequences.begin(s), sequences.end(s));
    head.finish();
  });
}

}  // namespace statespace::STATESPACE_ISA
