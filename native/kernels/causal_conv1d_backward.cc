#include <algorithm>
#include <cstring>

#include "backend/kernels.h"
#include "kernels/activation_gradients.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/causal_conv1d.h"

namespace statespace::STATESPACE_ISA {
namespace {

// A piece of work: so many channels, at most, over all tokens, so that no two sum into one weight. Tokens come in
// tiles, whose rows stay in L1 while the vectors of channels pass over them.
constexpr int64_t kChannels = 128, kTile = 16;

class ChannelGradient {
 public:
  // Scratch: weight, its gradient and g of the tokens behind (d_conv, kChannels each), bias and its gradient, the rows
  // of the state, and the addresses of a tile's inputs.
  static int64_t floats(int64_t d_conv) { return (4 * d_conv + 2) * kChannels + 2 * (d_conv + kTile); }

  ChannelGradient(const CausalConv1dBackward& op, int64_t first, int64_t width, float* scratch)
      : op_(op), d_conv_(op.weight[1]), first_(first), width_(width) {
    weight_ = scratch;
    dweight_ = weight_ + d_conv_ * kChannels;
    later_ = dweight_ + d_conv_ * kChannels;
    past_ = later_ + d_conv_ * kChannels;
    bias_ = past_ + d_conv_ * kChannels;
    dbias_ = bias_ + kChannels;
    inputs_ = reinterpret_cast<const float**>(dbias_ + kChannels);
    std::memset(scratch, 0, floats(d_conv_) * sizeof(float));
    for (int64_t c = 0; c < width_; ++c) {
      for (int64_t j = 0; j < d_conv_; ++j) weight_[j * kChannels + c] = op.weight.row(first + c)[j];
      if (op.bias) bias_[c] = op.bias.f32()[first + c];
    }
  }

  void sequence(int64_t s, int64_t begin, int64_t end, const Context& cx) {
    const int64_t past = d_conv_ - 1;
    for (int64_t c = 0; c < width_; ++c)
      for (int64_t j = 0; j < past; ++j)
        past_[j * kChannels + c] = op_.initial_state ? state(op_.initial_state, s, c)[j] : 0;
    std::memset(later_, 0, d_conv_ * kChannels * sizeof(float));
    for (int64_t t = (std::max<int64_t>(end - begin, 1) - 1) / kTile * kTile + begin; t >= begin; t -= kTile) {
      cx.check_stop();
      tile(begin, t, std::min(t + kTile, end));
    }
    if (op_.dinitial_state) initial(s);
    if (op_.dfinal_state) final(s, begin, end);
  }

  void finish() {
    for (int64_t c = 0; c < width_; ++c) {
      if (op_.dweight)
        for (int64_t j = 0; j < d_conv_; ++j) op_.dweight.row(first_ + c)[j] = dweight_[j * kChannels + c];
      if (op_.dbias) op_.dbias.f32()[first_ + c] = dbias_[c];
    }
  }

 private:
  float* state(const Tensor& t, int64_t s, int64_t c) const { return t.row(s) + (first_ + c) * (d_conv_ - 1); }

  void tile(int64_t begin, int64_t from, int64_t to) {
    const int64_t past = d_conv_ - 1;
    for (int64_t i = 0; i < to - from + past; ++i) {
      const int64_t t = from - past + i;
      inputs_[i] = t >= begin ? op_.x.row(t) + first_ : past_ + (t - begin + past) * kChannels;
    }
    const int64_t fetched = std::max<int64_t>(from - kTile, 0);  // of the tile to come, a row at a time
    for (int64_t c = 0; c < width_; c += kLanes) {
      const int n = lanes_of(width_ - c);
      op_.activation ? vector<true>(from, to, c, n, fetched) : vector<false>(from, to, c, n, fetched);
    }
  }

  template <bool kSilu>
  void vector(int64_t from, int64_t to, int64_t c, int n, int64_t fetched) {
    if (d_conv_ == 4) return taps<kSilu, 4>(from, to, c, n, fetched);
    if (d_conv_ == 3) return taps<kSilu, 3>(from, to, c, n, fetched);
    any<kSilu>(from, to, c, n);
  }

  template <bool kSilu>
  F upstream(int64_t t, int64_t c, int n, F pre) const {
    const F dy = load(op_.dy.row(t) + first_ + c, n);
    return kSilu ? dy * silu_gradient(pre) : dy;
  }

  // K taps in registers: the inputs and the g of later tokens slide through them.
  template <bool kSilu, int K>
  void taps(int64_t from, int64_t to, int64_t c, int n, int64_t fetched) {
    F w[K], dw[K], x[K], g[K];
#pragma GCC unroll 4
    for (int j = 0; j < K; ++j) {
      w[j] = load(weight_ + j * kChannels + c), dw[j] = load(dweight_ + j * kChannels + c);
      g[j] = load(later_ + j * kChannels + c);  // of tokens t + 1 … t + K
      x[j] = j + 1 < K ? load(inputs_[to - from + j] + c, n) : zero();
    }
    F bias = load(bias_ + c), dbias = load(dbias_ + c);
    for (int64_t t = to - 1; t >= from; --t) {
      const int64_t next = fetched + t - from;
      prefetch(op_.x.row(next) + first_ + c);
      prefetch(op_.dy.row(next) + first_ + c);
#pragma GCC unroll 4
      for (int j = K - 1; j > 0; --j) x[j] = x[j - 1];
      x[0] = load(inputs_[t - from] + c, n);
      F pre = bias;
#pragma GCC unroll 4
      for (int j = 0; j < K; ++j) pre = fma(w[j], x[j], pre);
#pragma GCC unroll 4
      for (int j = K - 1; j > 0; --j) g[j] = g[j - 1];
      g[0] = upstream<kSilu>(t, c, n, pre);
      dbias = dbias + g[0];
      F dx = zero();
#pragma GCC unroll 4
      for (int j = 0; j < K; ++j) {
        dw[j] = fma(g[0], x[j], dw[j]);
        dx = fma(w[K - 1 - j], g[j], dx);
      }
      if (op_.dx) store(op_.dx.row(t) + first_ + c, dx, n);
    }
#pragma GCC unroll 4
    for (int j = 0; j < K; ++j) {
      store(dweight_ + j * kChannels + c, dw[j]);
      store(later_ + j * kChannels + c, g[j]);
    }
    store(dbias_ + c, dbias);
  }

  template <bool kSilu>
  void any(int64_t from, int64_t to, int64_t c, int n) {
    auto later = [&](int64_t j) { return later_ + j * kChannels + c; };
    for (int64_t t = to - 1; t >= from; --t) {
      F pre = load(bias_ + c);
      for (int64_t j = 0; j < d_conv_; ++j)
        pre = fma(load(weight_ + j * kChannels + c), load(inputs_[t - from + j] + c, n), pre);
      for (int64_t j = d_conv_ - 1; j > 0; --j) store(later(j), load(later(j - 1)));
      const F g = upstream<kSilu>(t, c, n, pre);
      store(later(0), g);
      store(dbias_ + c, load(dbias_ + c) + g);
      F dx = zero();
      for (int64_t j = 0; j < d_conv_; ++j) {
        float* dw = dweight_ + j * kChannels + c;
        store(dw, fma(g, load(inputs_[t - from + j] + c, n), load(dw)));
        dx = fma(load(weight_ + (d_conv_ - 1 - j) * kChannels + c), load(later(j)), dx);
      }
      if (op_.dx) store(op_.dx.row(t) + first_ + c, dx, n);
    }
  }

  // later_ holds g of the sequence's first tokens: input i of the state met g_t by weight i - t.
  void initial(int64_t s) {
    for (int64_t c = 0; c < width_; ++c)
      for (int64_t i = 0; i < d_conv_ - 1; ++i) {
        float total = 0;
        for (int64_t t = 0; t <= i; ++t) total += weight_[(i - t) * kChannels + c] * later_[t * kChannels + c];
        state(op_.dinitial_state, s, c)[i] = total;
      }
  }

  // The final state is the last inputs themselves.
  void final(int64_t s, int64_t begin, int64_t end) {
    const int64_t past = d_conv_ - 1;
    for (int64_t c = 0; c < width_; ++c)
      for (int64_t i = 0; i < past; ++i) {
        const float up = state(op_.dfinal_state, s, c)[i];
        const int64_t t = end - past + i;
        if (t >= begin && op_.dx) op_.dx.row(t)[first_ + c] += up;
        if (t < begin && op_.dinitial_state) state(op_.dinitial_state, s, c)[t - begin + past] += up;
      }
  }

  const CausalConv1dBackward& op_;
  const int64_t d_conv_, first_, width_;
  float *weight_, *dweight_, *later_, *past_, *bias_, *dbias_;
  const float** inputs_;
};

}  // namespace

template <>
void run(const CausalConv1dBackward& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor(), op.x[0]);
  // As many pieces for every thread, of whole cache lines.
  constexpr int64_t kLine = 16;
  const int64_t channels = op.x[1], least = ceil_div(ceil_div(channels, kChannels), cx.threads()) * cx.threads();
  const int64_t width = std::clamp<int64_t>(ceil_div(ceil_div(channels, least), kLine) * kLine, kLine, kChannels);
  cx.parallel_for(ceil_div(channels, width), [&](int64_t i, int worker) {
    ChannelGradient piece(op, i * width, std::min(width, channels - i * width),
                          cx.local<float>(worker, ChannelGradient::floats(op.weight[1])));
    for (int64_t s = 0; s < sequences.count; ++s) piece.sequence(s, sequences.begin(s), sequences.end(s), cx);
    piece.finish();
  });
}

}  // namespace statespace::STATESPACE_ISA
