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
        per_(ChunkProducts::tokens_of_chunk(z)),
        segment_(w.segment),
        size_(ChunkProducts::state_floats(z)),
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
    return HeadWeights::floats(z, 1) + (ceil_div(tokens, ChunkProducts::tokens_of_chunk(z)) + rates) * z.s + 2 * 16;
  }
  // There is one of no chunks for no tokens.
  int64_t segments() const { return std::max<int64_t>(1, ceil_div(count(end_ - begin_), segment_)); }

 protected:
  int64_t count(int64_t tokens) const { return ceil_div(tokens, per_); }
  float* state(int64_t c) const { return w_.states + c % segment_ * size_; }
  float* row_of(const Tensor& t, int64_t width) const { return t.row(sequence_) + head_ * width; }
  // Of a tensor by rank and head: (sequences, rank, nheads, d_state) or without a rank.
  float* row_of_k(const Tensor& t, int64_t r) const { return t.row(sequence_) + (r * z_.nheads + head_) * z_.d_state; }
  // Rows of a state (p, n) in the order of the channels, and back.
  void read_state(const float* from, float* S) const {
    for (int64_t p = 0; p < z_.headdim; ++p) {
      z_.ordered(from + p * z_.d_state, w_.channels);
      for (int64_t i = 0; i < z_.n; i += kLanes) store(w_.chunk.at(S, p, i), load(w_.channels + i));
    }
  }
  void read_row(const float* S, int64_t p, float* to) const {
    for (int64_t i = 0; i < z_.n; i += kLanes) store(to + i, load(w_.chunk.at(S, p, i)));
  }
  float dt(int64_t t) const { return w_.steps.dt[t]; }

  // fn(offset in a head, lanes where they are not all) over a head's channels.
  template <class Fn>
  [[gnu::always_inline]] void channels(Fn&& fn) const {
    int64_t i = 0;
    for (; i + kLanes <= z_.headdim; i += kLanes) fn(i);
    if (i < z_.headdim) fn(i, int(z_.headdim - i));
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

  // What is read of chunk c, fetched while another one is at work: for k and v, and for the rest.
  Fetch rows_of(int64_t c, bool keys, bool queries) const {
    const int64_t token = begin_ + c * per_;
    Fetch fetch(Ahead{token, c < 0 ? token : std::min(token + per_, end_), head_});
    const auto shared = [&](const float* rows) {
      Tensor t;
      t.data = const_cast<float*>(rows), t.rank = 2, t.row_stride = z_.rank * z_.ngroups * z_.n;
      // Where groups of heads are several, a rank's rows lie apart, and only the first is fetched.
      fetch.add(t, z_.group(head_) * z_.n, z_.ngroups == 1 ? z_.rank * z_.n : z_.n);
    };
    if (keys) fetch.add(op_.x, head_ * z_.headdim, z_.headdim), shared(shared_.B);
    if (!queries) return fetch;
    shared(shared_.C);
    for (const Tensor* rows : {&op_.dy, &op_.z, &op_.dx}) fetch.add(*rows, head_ * z_.headdim, z_.headdim);
    for (int64_t r = 0; op_.outputs && r < std::min<int64_t>(z_.rank, 6); ++r)
      fetch.add(op_.outputs, (r * z_.nheads + head_) * z_.headdim, z_.headdim);
    return fetch;
  }
  // Those that a segment begins with, and the state kept there.
  Fetch rows_of_segment(int64_t segment) const {
    const int64_t first = segment * segment_;
    Fetch fetch = rows_of(segment < 0 ? -1 : first, true, first == last_chunk(segment));
    if (segment > 0) fetch.add(kept_states::at(op_.states, begin_ + first * per_, head_), z_.d_state * z_.headdim);
    return fetch;
  }

  // Steps, k and v of chunk c, unless they are held since the segment's way forward (`there`).
  void prepare(int64_t c, int64_t n, bool there) {
    const int64_t token = begin_ + c * per_, place = c % w_.places;
    const bool more = token + n < end_;
    w_.steps.fill(f_, head_, token, n + more);
    if (!more) w_.steps.carried[n] = 0;
    w_.chunk.k = w_.k + place * ChunkProducts::row_count(z_) * z_.n;
    w_.chunk.v = w_.v + place * ChunkProducts::row_count(z_) * z_.p;
    w_.chunk.decay(w_.steps, n);
    if (there) return;
    copy_row(starts_ + c * z_.s, w_.theta, z_.s);
    for (int64_t t = 0; t < n; ++t) {
      turn(z_, rates(token + t), dt(t), w_.theta, sine(c, t), cosine(c, t));
      inputs(f_, z_, head_, f_.x.row(token + t) + head_ * z_.headdim, w_.chunk.v + t * z_.rank * z_.p);
      for (int64_t r = 0; r < z_.rank; ++r)
        rotate(z_, row(shared_.B, token + t, r), weights_.of_B(0, r), sine(c, t), cosine(c, t),
               w_.chunk.k + (t * z_.rank + r) * z_.n);
    }
  }
  void prepare_queries(int64_t c, int64_t n) const {
    for (int64_t t = 0; t < n; ++t)
      for (int64_t r = 0; r < z_.rank; ++r)
        rotate(z_, row(shared_.C, begin_ + c * per_ + t, r), weights_.of_C(0, r), sine(c, t), cosine(c, t),
               w_.chunk.c + (t * z_.rank + r) * z_.n);
  }
  float* sine(int64_t c, int64_t t) const { return w_.sine + (c % w_.places * per_ + t) * z_.s; }
  float* cosine(int64_t c, int64_t t) const { return w_.cosine + (c % w_.places * per_ + t) * z_.s; }

  // The state at the start of chunk c, a segment's first.
  void start(int64_t c) {
    w_.chunk.clear_state(state(c));
    if (c > 0) return read_kept(begin_ + c * per_, state(c));
    if (op_.ssm_state) read_state(row_of(op_.ssm_state, z_.headdim * z_.d_state), w_.states);
    if (op_.k_state) carry_in();
  }
  // Kept as (d_state, headdim), in the order of the channels.
  void read_kept(int64_t token, float* S) const {
    const float* from = kept_states::at(op_.states, token, head_);
    for (int64_t n = 0; n < z_.d_state; n += kLanes)
      for (int64_t p = 0; p < z_.headdim; p += kLanes) {
        const int columns = int(std::min<int64_t>(kLanes, z_.headdim - p));
        F square[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          square[i] = n + i < z_.d_state ? load_some(from + (n + i) * z_.headdim + p, columns) : zero();
        transpose(square);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i)
          if (i < columns) store(w_.chunk.at(S, p + i, n), square[i]);
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
        for (int64_t i = 0; i < z_.n; i += kLanes) {
          float* S = w_.chunk.at(w_.states, p, i);
          store(S, fma(weight, load(k + i), load(S)));
        }
      }
    }
  }

  const Mamba3Backward& op_;
  const Mamba3& f_;
  const Sizes& z_;
  const TokenRows shared_;
  const int64_t per_;             // tokens of a chunk
  const int64_t segment_, size_;  // chunks of a segment, floats of a state
  const int64_t sequence_, head_, begin_, end_;
  Workspace& w_;

 private:
  HeadWeights weights_;
  float* const starts_;     // (chunks, s): θ
  float* const own_rates_;  // (tokens, s)
};

}  // namespace statespace::STATESPACE_ISA::mamba3
