#include "ops/causal_conv1d.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "kernels/streamed.h"

namespace statespace::STATESPACE_ISA {
namespace {

// A piece of work: rows of this many channels keep the taps and the weights in L1, and at least so many tokens.
constexpr int64_t kChannels = 256;
constexpr int64_t kTokens = 64;
constexpr int64_t kPointer = 2;  // floats that hold one
// Tokens at a time: a row that several of them read is loaded once.
constexpr int kRows = 4;
// Tokens whose halves become floats at a time: they stay in L1.
constexpr int64_t kHalves = 16;

// y_r = act(Σ_j weight[j] · taps[r + j] + bias) for the next `rows` tokens of a block of channels. The rows after those
// are fetched meanwhile, where they lie `x_stride` apart: parts of rows are no stream that the processor sees coming.
template <int K, int kRows, bool kStreamed, class Act>
void convolve(const float* const* taps, int64_t x_stride, const float* weight, const float* bias, int64_t width,
              Act act, float* y, int64_t y_stride) {
  auto columns = [&](int64_t c, auto... n) {
    const auto write = [&](float* to, F v) { kStreamed ? stream(to, v) : store(to, v, n...); };
    F w[K], x[K - 1 + kRows];
#pragma GCC unroll 8
    for (int j = 0; j < K; ++j) w[j] = load(weight + j * width + c, n...);
#pragma GCC unroll 8
    for (int r = 0; r < K - 1 + kRows; ++r) x[r] = load(taps[r] + c, n...);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if (kRows > 1) prefetch(taps[K - 1 + r] + kRows * x_stride + c);
      if (kRows > 1 && !kStreamed) prefetch(y + (kRows + r) * y_stride + c);
      F sum = load(bias + c, n...);
#pragma GCC unroll 8
      for (int j = 0; j < K; ++j) sum = fma(w[j], x[r + j], sum);
      write(y + r * y_stride + c, act(sum));
    }
  };
  int64_t c = 0;
  for (; c + kLanes <= width; c += kLanes) columns(c);
  if (c < width) columns(c, int(width - c));
}

// One token, d_conv known only at run time.
template <class Act>
void convolve_any(const float* const* taps, const float* weight, const float* bias, int64_t d_conv, int64_t width,
                  Act act, float* y) {
  auto columns = [&](int64_t c, auto... n) {
    F sum = load(bias + c, n...);
    for (int64_t j = 0; j < d_conv; ++j) sum = fma(load(weight + j * width + c, n...), load(taps[j] + c, n...), sum);
    store(y + c, act(sum), n...);
  };
  int64_t c = 0;
  for (; c + kLanes <= width; c += kLanes) columns(c);
  if (c < width) columns(c, int(width - c));
}

template <class Act>
void convolve(const float* const* taps, int64_t x_stride, const float* weight, const float* bias, int64_t d_conv,
              int64_t rows, int64_t width, Act act, float* y, int64_t y_stride, bool streamed) {
  auto with_width = [&]<int K>() {
    if (rows == kRows && streamed)
      convolve<K, kRows, true>(taps, x_stride, weight, bias, width, act, y, y_stride);
    else if (rows == kRows)
      convolve<K, kRows, false>(taps, x_stride, weight, bias, width, act, y, y_stride);
    else
      for (int64_t r = 0; r < rows; ++r)
        convolve<K, 1, false>(taps + r, 0, weight, bias, width, act, y + r * y_stride, 0);
  };
  if (d_conv == 4) return with_width.template operator()<4>();
  if (d_conv == 3) return with_width.template operator()<3>();
  for (int64_t r = 0; r < rows; ++r) convolve_any(taps + r, weight, bias, d_conv, width, act, y + r * y_stride);
}

// One block of channels, with what it needs in rows: weight (d_conv, width), bias (width), past (d_conv - 1, width).
struct Channels {
  int64_t first, width;
  float* own;  // inputs as floats (d_conv - 1 + kHalves, width), absent where they are
  float *weight, *bias, *past;
  const float** taps;  // (d_conv - 1 + kRows)
};

int64_t own_floats(const CausalConv1d& op) {
  return op.x.dtype == DType::f32 ? 0 : (op.weight[1] - 1 + kHalves) * kChannels;
}
int64_t scratch_floats(int64_t d_conv) { return 2 * d_conv * kChannels + (d_conv + kRows) * kPointer; }

Channels block_of(const CausalConv1d& op, int64_t block, float* own) {
  const int64_t first = block * kChannels, left = op.x[1] - first;
  return {first, left < kChannels ? left : kChannels, own, nullptr, nullptr, nullptr, nullptr};
}

void gather(const CausalConv1d& op, float* scratch, Channels& c) {
  const int64_t d_conv = op.weight[1], first = c.first;
  c.taps = reinterpret_cast<const float**>(scratch);
  c.weight = scratch + (d_conv + kRows) * kPointer;
  c.bias = c.weight + d_conv * c.width;
  c.past = c.bias + c.width;
  int64_t i = 0;
  if (d_conv == 4 && op.weight.row_stride == 4)
    for (; i + kLanes <= c.width; i += kLanes) {
      F w[4];
      load_fours(op.weight.row(first + i), w);
      for (int j = 0; j < 4; ++j) store(c.weight + j * c.width + i, w[j]);
    }
  for (; i < c.width; ++i)
    for (int64_t j = 0; j < d_conv; ++j) c.weight[j * c.width + i] = op.weight.row(first + i)[j];
  for (i = 0; i < c.width; ++i) c.bias[i] = op.bias ? op.bias.f32()[first + i] : 0.f;
}

// Tokens [from, to) of the sequence that starts at `begin`; inputs before it come from the state.
template <class Act>
void run_tokens(const CausalConv1d& op, const Channels& c, const float* state, int64_t begin, int64_t from, int64_t to,
                Act act, bool streamed, const Context& cx) {
  const int64_t d_conv = op.weight[1], past = d_conv - 1;
  if (from - begin < past) {
    int64_t i = 0;
    if (past == 3)
      for (; i + kLanes <= c.width; i += kLanes) {
        F x[3];
        load_threes(state + 3 * i, x);
        for (int j = 0; j < 3; ++j) store(c.past + j * c.width + i, x[j]);
      }
    for (; i < c.width; ++i)
      for (int64_t j = 0; j < past; ++j) c.past[j * c.width + i] = state[i * past + j];
  }
  const int64_t tile = c.own ? kHalves : to - from;
  for (int64_t start = from; start < to; start += tile) {
    const int64_t end = to - start < tile ? to : start + tile, read = start - past < begin ? begin : start - past;
    const Tensor x = floats_of(op.x, read, end - read, c.first, c.width, c.own);
    for (int64_t t = start; t < end; t += kRows) {
      cx.check_stop();
      const int64_t rows = end - t < kRows ? end - t : kRows;
      for (int64_t j = 0; j < past + rows; ++j) {
        const int64_t source = t - past + j;
        c.taps[j] = source >= begin ? x.row(source) + c.first : c.past + (source - begin + past) * c.width;
      }
      convolve(c.taps, x.row_stride, c.weight, c.bias, d_conv, rows, c.width, act, op.y.row(t) + c.first,
               op.y.row_stride, streamed);
    }
  }
}

// The last d_conv - 1 inputs of the sequence [begin, end), in place of those before it.
void update_state(const CausalConv1d& op, const Channels& c, float* state, int64_t begin, int64_t end) {
  const int64_t past = op.weight[1] - 1, length = end - begin, first = c.first, width = c.width;
  const int64_t last = length < past ? length : past;
  const Tensor x = floats_of(op.x, end - last, last, first, width, c.own);
  int64_t i = 0;
  if (past == 3 && length >= 3)
    for (; i + kLanes <= width; i += kLanes, state += 3 * kLanes) {
      const auto input = [&](int64_t back) { return load(x.row(end - back) + first + i); };
      store_threes(state, input(3), input(2), input(1));
    }
  for (; i < width; ++i, state += past)
    for (int64_t j = 0; j < past; ++j)
      state[j] = length + j < past ? state[length + j] : x.row(end - past + j)[first + i];
}

// A sequence of one token, x from channel `first` on, read and shifted where it lies: nothing is brought into rows for
// it.
template <class Act>
void step(const CausalConv1d& op, const float* x, int64_t first, int64_t width, float* state, int64_t token, Act act) {
  const int64_t d_conv = op.weight[1], past = d_conv - 1;
  const float* bias = op.bias ? op.bias.f32() + first : nullptr;
  const float* weight = op.weight.row(first);
  float* y = op.y.row(token) + first;
  for (int64_t i = 0; i < width; ++i, state += past, weight += op.weight.row_stride) {
    const float input = x[i];  // y may be x
    float sum = bias ? bias[i] : 0.f;
    for (int64_t j = 0; j < past; ++j) sum = fma1(weight[j], state[j], sum);
    for (int64_t j = 0; j + 1 < past; ++j) state[j] = state[j + 1];
    if (past > 0) state[past - 1] = input;
    y[i] = fma1(weight[past], input, sum);
  }
  for (int64_t i = 0; i < width; i += kLanes) {
    const int lanes = lanes_of(width - i);
    store(y + i, act(load(y + i, lanes)), lanes);
  }
}

// The same for d_conv = 4, a vector of channels at a time.
template <class Act>
void step_fours(const CausalConv1d& op, const float* x, int64_t first, int64_t width, float* state, int64_t token,
                Act act) {
  const float* bias = op.bias ? op.bias.f32() + first : nullptr;
  const float* weight = op.weight.row(first);
  float* y = op.y.row(token) + first;
  int64_t i = 0;
  for (; i + kLanes <= width; i += kLanes) {
    F w[4], past[3], sum = bias ? load(bias + i) : zero();
    const F input = load(x + i);
    load_fours(weight + 4 * i, w);
    load_threes(state + 3 * i, past);
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) sum = fma(w[j], past[j], sum);
    store_threes(state + 3 * i, past[1], past[2], input);
    store(y + i, act(fma(w[3], input, sum)));
  }
  if (i < width) step(op, x + i, first + i, width - i, state + 3 * i, token, act);
}

}  // namespace

template <>
void run(const CausalConv1d& op, Context& cx) {
  const int64_t d_conv = op.weight[1], tokens = op.x[0];
  const Sequences sequences(op.cu_seqlens, op.slots, tokens);
  const int64_t channel_blocks = ceil_div(op.x[1], kChannels);
  // Long pieces, since each one brings its weights into rows, but some for each thread.
  int64_t block = ceil_div(tokens * channel_blocks, 8 * cx.threads());
  block = block < kTokens ? kTokens : block;
  const int64_t token_blocks = ceil_div(tokens, block);
  auto state_of = [&](int64_t s, int64_t first) { return op.state.row(sequences.slot(s)) + first * (d_conv - 1); };
  // States are overwritten only when no token block may still read them.
  auto update = [&](int64_t s, const Channels& c) {
    update_state(op, c, state_of(s, c.first), sequences.begin(s), sequences.end(s));
  };
  const int64_t own = own_floats(op);
  auto local = [&](int worker) { return cx.local<float>(worker, own + scratch_floats(d_conv)); };

  const bool streamed = streams_result(op.y, {&op.x}, op.x[1]);
  const bool in_fours = d_conv == 4 && op.weight.row_stride == 4;
  cx.parallel_stretches(token_blocks * channel_blocks, [&](int64_t i, int worker) {
    const int64_t from = i / channel_blocks * block, to = from + block < tokens ? from + block : tokens;
    Channels c = block_of(op, i % channel_blocks, own ? local(worker) : nullptr);
    for (int64_t s = sequences.containing(from); s < sequences.count && sequences.begin(s) < to; ++s) {
      const int64_t begin = sequences.begin(s), end = sequences.end(s);
      const int64_t first = begin < from ? from : begin, last = end < to ? end : to;
      auto tokens_with = [&](auto act) {
        run_tokens(op, c, state_of(s, c.first), begin, first, last, act, streamed, cx);
      };
      if (first == last) continue;
      if (end - begin == 1) {
        float* state = state_of(s, c.first);
        const float* x = floats_of(op.x, begin, 1, c.first, c.width, c.own).row(begin) + c.first;
        const auto step_with = [&](auto act) {
          in_fours ? step_fours(op, x, c.first, c.width, state, begin, act)
                   : step(op, x, c.first, c.width, state, begin, act);
        };
        op.activation ? step_with([](F x) { return silu(x); }) : step_with([](F x) { return x; });
        continue;
      }
      if (!c.taps) gather(op, local(worker) + own, c);
      if (op.activation)
        tokens_with([](F x) { return silu(x); });
      else
        tokens_with([](F x) { return x; });
      if (token_blocks == 1) update(s, c);
    }
    if (streamed) end_streams();
  });
  if (token_blocks > 1)
    cx.parallel_for(sequences.count * channel_blocks, [&](int64_t i, int worker) {
      const int64_t s = i / channel_blocks;
      if (sequences.end(s) - sequences.begin(s) == 1) return;  // stepped
      update(s, block_of(op, i % channel_blocks, own ? local(worker) : nullptr));
    });
}

}  // namespace statespace::STATESPACE_ISA
