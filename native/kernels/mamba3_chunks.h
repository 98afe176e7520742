#pragma once
// The chunks of one head of Mamba-3 in one sequence as its gradient takes them: rows of k, c and v of their tokens, and
// the states at their starts, from those that the forward kept or else from the sequence's first.
#include <cstring>

#include "kernels/mamba3_workspace.h"

namespace statespace::STATESPACE_ISA::mamba3 {

class HeadChunks {
 public:
  HeadChunks(const Mamba3Backward& op, const Mamba3& forward, const TokenRows& shared, const Sizes& z, Workspace& w,
             int64_t sequence, int64_t head, int64_t begin, int64_t end, Arena& arena)
      : op_(op),
        f_(forward),
        z_(z),
        shared_(shared),
        per_(tokens_of_chunk(z)),
        rows_(per_ * z.rank),
        segment_(w.segment),
        size_(DecayGradient::state_floats(z.d_state, z.headdim)),
        sequence_(sequence),
        head_(head),
        begin_(begin),
        end_(end),
        w_(w),
        weights_(arena, z, 1),
        starts_(arena.take(count(end - begin) * z.s)),
        own_rates_(shared.rates ? nullptr : arena.take((end - begin) * z.s)) {
    weights_.read(f_, z_, head, 0);
    turns();
  }
  static int64_t floats(const Mamba3Backward& op, const Sizes& z, int64_t tokens) {
    const int64_t rates = op.angles.rank == 3 ? tokens : 0;
    return HeadWeights::floats(z, 1) + (ceil_div(tokens, tokens_of_chunk(z)) + rates) * z.s + 2 * 16;
  }
  // There is one of no chunks for no tokens.
  int64_t segments() const { return std::max<int64_t>(1, ceil_div(count(end_ - begin_), segment_)); }

 protected:
  int64_t count(int64_t tokens) const { return ceil_div(tokens, per_); }
  float* state(int64_t c) const { return w_.states + c % segment_ * size_; }
  float* row_of(const Tensor& t, int64_t width) const { return t.row(sequence_) + head_ * width; }
  // Of a tensor by rank and head: (sequences, rank, nheads, d_state) or without a rank.
  float* row_of_k(const Tensor& t, int64_t r) const { return t.row(sequence_) + (r * z_.nheads + head_) * z_.d_state; }
  void read_ordered(const float* from, float* S) const {
    for (int64_t p = 0; p < z_.headdim; ++p) z_.ordered(from + p * z_.d_state, S + p * z_.n);
  }
  float dt(int64_t t) const { return w_.steps.dt[t]; }

  // fn(offset in a head, lanes) over a head's channels.
  template <class Fn>
  void channels(Fn&& fn) const {
    for (int64_t i = 0; i < z_.headdim; i += kLanes) fn(i, z_.headdim - i < kLanes ? int(z_.headdim - i) : kLanes);
  }

  // log a of a token.
  double log_decay(int64_t token, float step) const {
    const float u = op_.adt.row(token)[head_];
    return op_.raw_steps ? -double(std::max(op_.a_floor, u < 0 ? 1 / (1 - u) : 1 + u)) * step : double(u);
  }

  const float* rates(int64_t token) const {
    return own_rates_ ? own_rates_ + (token - begin_) * z_.s : shared_.rates + token * z_.s;
  }
  // Row of B or C of this head's group.
  const float* row(const float* rows, int64_t token, int64_t r) const {
    return rows + ((token * z_.rank + r) * z_.ngroups + z_.group(head_)) * z_.n;
  }

  // The angles at the chunks' starts.
  void turns() {
    clear(w_.theta, z_.s);
    if (op_.angle_state) copy_row(row_of(op_.angle_state, z_.angles), w_.theta, z_.angles);
    for (int64_t c = 0; c < count(end_ - begin_); ++c) {
      const int64_t token = begin_ + c * per_, n = std::min(per_, end_ - token);
      copy_row(w_.theta, starts_ + c * z_.s, z_.s);
      w_.steps.fill(f_, head_, token, n);
      for (int64_t t = 0; t < n; ++t) {
        if (own_rates_) rates_of(f_, z_, head_, token + t, own_rates_ + (token + t - begin_) * z_.s);
        const float* rate = rates(token + t);
        for (int64_t i = 0; i < z_.angles; i += kLanes)
          store(w_.theta + i, reduced(fma(load(rate + i), set(dt(t)), load(w_.theta + i))));
      }
    }
  }

  int64_t last_chunk(int64_t segment) const { return std::min(count(end_ - begin_), (segment + 1) * segment_) - 1; }
  // What chunk c reads, and the state before chunk `kept`, are fetched while another one is at work.
  void announce(int64_t c, int64_t kept) const {
    const int64_t token = begin_ + c * per_, n = c < 0 ? 0 : std::min(per_, end_ - token);
    const auto rows_of = [&](const Tensor& t) {
      return t ? RowsAhead{t.row(token) + head_ * z_.headdim, t.row_stride, n, z_.headdim} : RowsAhead();
    };
    w_.chunk.ahead[0] = rows_of(op_.x), w_.chunk.ahead[1] = rows_of(op_.dy), w_.chunk.ahead[2] = rows_of(op_.z);
    if (kept <= 0) return;
    const float* S = kept_states::at(op_.states, begin_ + kept * per_, head_);
    for (int64_t half = 0; half < 2; ++half)
      w_.chunk.ahead[3 + half] = {S + half * z_.headdim, 2 * z_.headdim, (z_.d_state + 1 - half) / 2, z_.headdim};
  }

  // Rows of a chunk's tokens.
  void prepare(int64_t c, int64_t n, bool reads) {
    const int64_t token = begin_ + c * per_;
    copy_row(starts_ + c * z_.s, w_.theta, z_.s);
    const bool more = token + n < end_;
    w_.steps.fill(f_, head_, token, n + more);
    if (!more) w_.steps.carried[n] = 0;
    for (int64_t t = 0; t < n; ++t) {
      float *sine = w_.sine + t * z_.s, *cosine = w_.cosine + t * z_.s, *v = w_.v + t * z_.rank * z_.p;
      turn(z_, rates(token + t), dt(t), w_.theta, sine, cosine);
      inputs(f_, z_, head_, f_.x.row(token + t) + head_ * z_.headdim, v);
      for (int64_t r = 0; r < z_.rank; ++r) {
        const int64_t at = t * z_.rank + r;
        rotate(z_, row(shared_.B, token + t, r), weights_.of_B(0, r), sine, cosine, w_.chunk.k + at * z_.n);
        for (int64_t i = 0; i < z_.p; i += kLanes)
          store(w_.chunk.x + at * z_.p + i, set(w_.steps.own[t] + w_.steps.carried[t + 1]) * load(v + r * z_.p + i));
        if (!reads) continue;
        rotate(z_, row(shared_.C, token + t, r), weights_.of_C(0, r), sine, cosine, w_.chunk.q + at * z_.n);
      }
    }
    w_.chunk.decays.fill(n * z_.rank, [&](int64_t row) {
      return row % z_.rank ? 0 : log_decay(token + row / z_.rank, dt(row / z_.rank));
    });
  }

  // The state at the start of chunk c, a segment's first.
  void start(int64_t c) {
    w_.chunk.clear_state(state(c));
    if (c > 0) return read_kept(begin_ + c * per_, state(c));
    if (op_.ssm_state) read_ordered(row_of(op_.ssm_state, z_.headdim * z_.d_state), w_.states);
    if (op_.k_state) carry_in();
  }
  // Kept as (d_state, headdim), in the order of the channels.
  void read_kept(int64_t token, float* S) const {
    const float* from = kept_states::at(op_.states, token, head_);
    if (z_.headdim == z_.p && z_.d_state == z_.n)
      return transpose_block(from, z_.headdim, z_.d_state, z_.headdim, S, z_.n);
    for (int64_t n = 0; n < z_.d_state; n += kLanes)
      for (int64_t p = 0; p < z_.headdim; p += kLanes) {
        F square[kLanes];
        for (int i = 0; i < kLanes; ++i)
          square[i] = n + i < z_.d_state
                          ? load_some(from + (n + i) * z_.headdim + p, int(std::min<int64_t>(kLanes, z_.headdim - p)))
                          : zero();
        transpose(square);
        for (int i = 0; i < kLanes && p + i < z_.headdim; ++i) store(S + (p + i) * z_.n + n, square[i]);
      }
  }

  // What the first token adds of the one before it.
  void carry_in() {
    w_.steps.fill(f_, head_, begin_, 1);
    inputs(f_, z_, head_, row_of(op_.v_state, z_.headdim), w_.v_before);
    for (int64_t r = 0; r < z_.rank; ++r) {
      float* k = w_.k_before + r * z_.n;
      z_.ordered(row_of_k(op_.k_state, r), k);
      for (int64_t p = 0; p < z_.headdim; ++p) {
        const F weight = set(w_.steps.carried[0] * w_.v_before[r * z_.p + p]);
        float* S = w_.states + p * z_.n;
        for (int64_t i = 0; i < z_.n; i += kLanes) store(S + i, fma(weight, load(k + i), load(S + i)));
      }
    }
  }

  const Mamba3Backward& op_;
  const Mamba3& f_;
  const Sizes& z_;
  const TokenRows shared_;
  const int64_t per_, rows_;      // tokens of a chunk, their rows
  const int64_t segment_, size_;  // chunks of a segment, floats of a state
  const int64_t sequence_, head_, begin_, end_;
  Workspace& w_;

 private:
  HeadWeights weights_;
  float* const starts_;     // (chunks, s): θ
  float* const own_rates_;  // (tokens, s)
};

}  // namespace statespace::STATESPACE_ISA::mamba3
