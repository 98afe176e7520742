#include "backend/kernels.h"
#include "kernels/activation_gradients.h"
#include "kernels/decay_gradient.h"
#include "kernels/head_chunk.h"
#include "kernels/rate.h"
#include "kernels/rows.h"
#include "ops/ssd.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Heads that share a chunk's B·Cᵀ. A constant, so that sums are the same on any number of threads.
constexpr int64_t kHeads = 6;

// What is summed beside the tokens: dB and dC (blocks of heads, tokens, groups · d_state) each; dA and ddtBias
// (sequences, nheads), dD (sequences, nheads, headdim). dt is clamped, slope its slope in the raw dt: (tokens, nheads).
struct Sums {
  float *dt, *slope, *dB, *dC, *dA, *dbias, *dD;
};

void time_steps(const SsdBackward& op, const Sums& totals, Context& cx) {
  const int64_t nheads = op.x[1];
  const F low = set(op.dt_min), high = set(op.dt_max);
  for_row_blocks(cx, op.x[0], nheads, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < nheads; h += kLanes) {
        const int m = lanes_of(nheads - h);
        F p = load(op.dt.row(t) + h, m);
        if (op.dt_bias) p = p + load(op.dt_bias.f32() + h, m);
        const F s = op.dt_softplus ? softplus(p) : p, gradient = op.dt_softplus ? softplus_gradient(p) : set(1.f);
        const F above = select(less(s, low), zero(), gradient);
        store(totals.dt + t * nheads + h, min(high, max(low, s)), m);
        store(totals.slope + t * nheads + h, select(less(high, s), zero(), above), m);
      }
  });
}

// Heads [first, first + count) of one group over one sequence.
class Heads {
  static_assert(kDecayChunk == kept_states::kEvery);

 public:
  static int64_t floats(const SsdBackward& op, int64_t longest) {
    return DecayGradient::floats(op.B[2], op.x[2]) +
           (states(op, ceil_div(longest, kDecayChunk)) + 1) * kHeads * DecayGradient::state_floats(op.B[2], op.x[2]) +
           64;
  }
  Heads(const SsdBackward& op, const Sums& totals, int64_t sequence, int64_t first, int64_t count, float* memory)
      : op_(op),
        totals_(totals),
        sequence_(sequence),
        first_(first),
        count_(count),
        nheads_(op.x[1]),
        headdim_(op.x[2]),
        d_state_(op.B[2]),
        group_(first / (nheads_ / op.B[1])),
        size_(DecayGradient::state_floats(d_state_, headdim_)),
        chunk_(d_state_, headdim_, memory),
        states_(memory + ceil_div(DecayGradient::floats(d_state_, headdim_), 16) * 16) {}

  void run(Context& cx, int64_t begin, int64_t end, float* dB, float* dC) {
    const int64_t chunks = ceil_div(end - begin, kDecayChunk);
    auto from = [&](int64_t c) { return begin + c * kDecayChunk; };
    auto tokens = [&](int64_t c) { return std::min(kDecayChunk, end - from(c)); };
    const bool kept = op_.kept();
    float* G = states_ + states(op_, chunks) * count_ * size_;
    for (int64_t h = 0; h < count_; ++h) {
      chunk_.clear_state(state(0, h)), chunk_.clear_state(G + h * size_);
      if (op_.initial_state && chunks) read(op_.initial_state, h, state(0, h));
      if (op_.dlast_state) read(op_.dlast_state, h, G + h * size_);
    }
    for (int64_t c = 0; !kept && c + 1 < chunks; ++c) {
      cx.check_stop();
      const int64_t t = from(c), n = tokens(c);
      read_shared(op_.B, t, n, chunk_.k);
      for (int64_t h = 0; h < count_; ++h) {
        read_inputs(h, t, n);
        const bool same = h + 1 < count_;
        chunk_.ahead[0] = rows_of(op_.x, same ? h + 1 : 0, same ? t : t + n, same ? n : tokens(c + 1));
        chunk_.clear_rest(state(c + 1, h));
        chunk_.advance(n, state(c, h), state(c + 1, h));
      }
    }
    for (int64_t h = 0; kept && h < count_; ++h) chunk_.clear_state(state(1, h));
    for (int64_t c = chunks - 1; c >= 0; --c) {
      cx.check_stop();
      const int64_t t = from(c), n = tokens(c);
      read_shared(op_.B, t, n, chunk_.k);
      read_shared(op_.C, t, n, chunk_.q);
      chunk_.begin(n);
      for (int64_t h = 0; h < count_; ++h) {
        read_inputs(h, t, n);
        read_upstream(h, t, n);
        const float* S = state(kept ? std::min<int64_t>(c, 1) : c, h);
        if (kept && c > 0) read_kept(t, h, state(1, h));
        if (op_.dz) {
          chunk_.outputs(n, S);
          write_gate(h, t, n);
        }
        // The head's own rows of dx, and the next head's inputs.
        const bool same = h + 1 < count_;
        const int64_t other = same ? h + 1 : 0, next = same ? c : c - 1, there = next < 0 ? 0 : tokens(next);
        chunk_.ahead[0] = rows_of(op_.x, other, from(next), there);
        chunk_.ahead[1] = rows_of(op_.dy, other, from(next), there);
        chunk_.ahead[2] = rows_of(op_.dx, h, t, n);
        for (int64_t half = 0; half < 2; ++half)
          chunk_.ahead[3 + half] = kept && next > 0 ? kept_rows(from(next), other, half) : RowsAhead();
        chunk_.head(n, S, G + h * size_, bool(op_.dz));
        write(h, t, n);
      }
      chunk_.finish(n);
      for (int64_t i = 0; i < n; ++i) {
        const int64_t at = ((t + i) * op_.B[1] + group_) * d_state_;
        copy_row(chunk_.dk + i * chunk_.key_stride, dB + at, d_state_);
        copy_row(chunk_.dq + i * chunk_.key_stride, dC + at, d_state_);
      }
    }
    for (int64_t h = 0; h < count_; ++h)
      if (op_.dinitial_state)
        write_rows(G + h * size_, chunk_.key_stride, headdim_, d_state_, state_of(op_.dinitial_state, h));
  }

 private:
  // States that exist at once: each chunk's, or the sequence's first and the one that the forward kept.
  static int64_t states(const SsdBackward& op, int64_t chunks) { return op.kept() ? 2 : chunks; }
  float* state(int64_t chunk, int64_t h) const { return states_ + (chunk * count_ + h) * size_; }
  float* state_of(const Tensor& t, int64_t h) const { return t.row(sequence_) + (first_ + h) * headdim_ * d_state_; }
  void read(const Tensor& t, int64_t h, float* to) const {
    read_rows(state_of(t, h), headdim_, d_state_, to, chunk_.key_stride);
  }
  void read_shared(const Tensor& from, int64_t t, int64_t n, float* to) const {
    copy_rows(from, t, n, group_ * d_state_, d_state_, to, chunk_.key_stride);
  }
  float dt(int64_t h, int64_t t) const { return totals_.dt[t * nheads_ + first_ + h]; }
  float A(int64_t h) const { return finite_rate(op_.A.f32()[first_ + h]); }
  // fn(offset in a head, lanes) over a head's channels.
  template <class Fn>
  void channels(Fn&& fn) const {
    for (int64_t i = 0; i < headdim_; i += kLanes) fn(i, lanes_of(headdim_ - i));
  }
  const float* row(const Tensor& t, int64_t h, int64_t token) const { return t.row(token) + (first_ + h) * headdim_; }
  // A chunk's rows of a head.
  RowsAhead rows_of(const Tensor& t, int64_t h, int64_t token, int64_t count) const {
    if (!t || count == 0) return {};
    return {row(t, h, token), t.row_stride, count, headdim_};
  }
  // The state that the forward kept before token t, every second row, and all as (headdim, d_state).
  RowsAhead kept_rows(int64_t t, int64_t h, int64_t half) const {
    return {kept_states::at(op_.states, t, first_ + h) + half * headdim_, 2 * headdim_, (d_state_ + 1 - half) / 2,
            headdim_};
  }
  void read_kept(int64_t t, int64_t h, float* to) const {
    const float* from = kept_states::at(op_.states, t, first_ + h);
    for (int64_t n = 0; n < d_state_; n += kLanes)
      for (int64_t p = 0; p < headdim_; p += kLanes) {
        F square[kLanes];
        for (int i = 0; i < kLanes; ++i)
          square[i] = n + i < d_state_ ? load(from + (n + i) * headdim_ + p, lanes_of(headdim_ - p)) : zero();
        transpose(square);
        for (int i = 0; i < kLanes; ++i) store(to + (p + i) * chunk_.key_stride + n, square[i]);
      }
  }
  F skip(int64_t h, int64_t i, int m) const {
    if (!op_.D) return zero();
    return op_.D.rank == 1 ? set(op_.D.f32()[first_ + h]) : load(op_.D.row(first_ + h) + i, m);
  }

  // dt·x, and the decays.
  void read_inputs(int64_t h, int64_t t, int64_t n) {
    chunk_.decays.fill(n, [&](int64_t i) { return double(dt(h, t + i)) * A(h); });
    for (int64_t i = 0; i < n; ++i) {
      const F step = set(dt(h, t + i));
      channels([&](int64_t c, int m) {
        store(chunk_.x + i * chunk_.value_stride + c, step * load(row(op_.x, h, t + i) + c, m));
      });
    }
  }
  void read_upstream(int64_t h, int64_t t, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      channels([&](int64_t c, int m) {
        F g = load(row(op_.dy, h, t + i) + c, m);
        if (op_.z) g = g * silu(load(row(op_.z, h, t + i) + c, m));
        store(chunk_.u + i * chunk_.value_stride + c, g);
      });
  }
  void write_gate(int64_t h, int64_t t, int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      channels([&](int64_t c, int m) {
        const F x = load(row(op_.x, h, t + i) + c, m), dy = load(row(op_.dy, h, t + i) + c, m);
        const F y = fma(skip(h, c, m), x, load(chunk_.y + i * chunk_.value_stride + c));
        store(op_.dz.row(t + i) + (first_ + h) * headdim_ + c,
              dy * y * silu_gradient(load(row(op_.z, h, t + i) + c, m)), m);
      });
  }
  void write(int64_t h, int64_t t, int64_t n) {
    const int64_t at = sequence_ * nheads_ + first_ + h;
    for (int64_t i = 0; i < n; ++i) {
      const F step = set(dt(h, t + i));
      F fed = zero();
      channels([&](int64_t c, int m) {
        const F x = load(row(op_.x, h, t + i) + c, m), g = load(chunk_.u + i * chunk_.value_stride + c, m);
        const F dx = load(chunk_.dx + i * chunk_.value_stride + c, m);
        fed = fma(x, dx, fed);
        if (op_.dx) store(op_.dx.row(t + i) + (first_ + h) * headdim_ + c, fma(step, dx, skip(h, c, m) * g), m);
        if (!op_.dD) return;
        float* dD = totals_.dD + at * headdim_ + c;
        store(dD, fma(g, x, load(dD, m)), m);
      });
      const float slope = chunk_.slopes[i];
      const float ddt = (sum(fed) + A(h) * slope) * totals_.slope[(t + i) * nheads_ + first_ + h];
      if (op_.ddt) op_.ddt.row(t + i)[first_ + h] = ddt;
      totals_.dA[at] += dt(h, t + i) * slope;
      totals_.dbias[at] += ddt;
    }
  }

  const SsdBackward& op_;
  const Sums& totals_;
  const int64_t sequence_, first_, count_, nheads_, headdim_, d_state_, group_, size_;
  DecayGradient chunk_;
  float* states_;
};

// to (count) = the sum of `parts` rows of from.
void sum_parts(Context& cx, const float* from, int64_t parts, int64_t count, float* to) {
  for_row_blocks(cx, ceil_div(count, kLanes), kLanes * parts, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * kLanes; i < std::min(count, end * kLanes); i += kLanes) {
      const int m = lanes_of(count - i);
      F total = zero();
      for (int64_t p = 0; p < parts; ++p) total = total + load(from + p * count + i, m);
      store(to + i, total, m);
    }
  });
}

}  // namespace

template <>
void run(const SsdBackward& op, Context& cx) {
  const int64_t tokens = op.x[0], nheads = op.x[1], headdim = op.x[2], groups = op.B[1], width = groups * op.B[2];
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const int64_t per_group = nheads / groups, blocks = ceil_div(per_group, kHeads), heads = ceil_div(per_group, blocks);
  const int64_t own = sequences.count * nheads;
  Sums totals;
  totals.dt = cx.kept<float>(2 * tokens * nheads + 2 * blocks * tokens * width + own * (2 + headdim));
  totals.slope = totals.dt + tokens * nheads;
  totals.dB = totals.slope + tokens * nheads, totals.dC = totals.dB + blocks * tokens * width;
  totals.dA = totals.dC + blocks * tokens * width, totals.dbias = totals.dA + own, totals.dD = totals.dbias + own;
  std::memset(totals.dA, 0, own * (2 + headdim) * sizeof(float));
  time_steps(op, totals, cx);
  cx.parallel_for(sequences.count * groups * blocks, [&](int64_t i, int worker) {
    const int64_t s = i / (groups * blocks), group = i / blocks % groups, block = i % blocks;
    const int64_t first = block * heads, count = std::min(heads, per_group - first);
    const int64_t begin = sequences.begin(s), end = sequences.end(s);
    if (count <= 0) return;
    Heads(op, totals, s, group * per_group + first, count, cx.local<float>(worker, Heads::floats(op, end - begin)))
        .run(cx, begin, end, totals.dB + block * tokens * width, totals.dC + block * tokens * width);
  });
  auto write = [&](const float* from, int64_t count, const Tensor& to) {
    if (to) sum_parts(cx, from, count, to.size(), to.f32());
  };
  // Rows of dB and dC may be columns of a wider gradient.
  auto write_tokens = [&](const float* from, const Tensor& to) {
    constexpr int64_t kTokens = 16;
    if (!to) return;
    cx.parallel_for(ceil_div(tokens, kTokens), [&](int64_t piece, int) {
      for (int64_t t = piece * kTokens; t < std::min(tokens, (piece + 1) * kTokens); ++t)
        for (int64_t c = 0; c < width; c += kLanes) {
          const int m = int(std::min<int64_t>(kLanes, width - c));
          F total = zero();
          for (int64_t p = 0; p < blocks; ++p) total = total + load(from + (p * tokens + t) * width + c, m);
          store(to.row(t) + c, total, m);
        }
    });
  };
  write_tokens(totals.dB, op.dB);
  write_tokens(totals.dC, op.dC);
  write(totals.dA, sequences.count, op.dA);
  write(totals.dbias, sequences.count, op.ddt_bias);
  if (!op.dD) return;
  sum_parts(cx, totals.dD, sequences.count, nheads * headdim, totals.dD);
  for (int64_t h = 0; h < nheads; ++h) {
    if (op.dD.rank == 2) std::memcpy(op.dD.row(h), totals.dD + h * headdim, headdim * sizeof(float));
    if (op.dD.rank == 2) continue;
    float total = 0;
    for (int64_t p = 0; p < headdim; ++p) total += totals.dD[h * headdim + p];
    op.dD.f32()[h] = total;
  }
}

}  // namespace statespace::STATESPACE_ISA
