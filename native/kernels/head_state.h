#pragma once
// What the recurrences over a head's (key, value) matrix share: RWKV 5 to 7, retention, the delta rule. Columns of
// `value` evolve by themselves, so a task is a block of columns of one head of one sequence. Its part of the state lies
// in scratch as (key, N vectors) during the call and stays in the first-level cache.
#include "core/context.h"
#include "isa/math.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

// Up to N vectors of values, the missing ones 0.
template <int N>
struct Block {
  F v[N];
};

template <int N>
inline Block<N> load_block(const float* p, int64_t count) {
  Block<N> b;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    const int64_t left = count - j * kLanes;
    b.v[j] = left >= kLanes ? load(p + j * kLanes) : left > 0 ? load(p + j * kLanes, int(left)) : zero();
  }
  return b;
}

template <int N>
inline Block<N> load_block(const float* p) {
  Block<N> b;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) b.v[j] = load(p + j * kLanes);
  return b;
}

template <int N>
inline void store_block(float* p, const Block<N>& b, int64_t count) {
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) {
    const int64_t left = count - j * kLanes;
    if (left >= kLanes)
      store(p + j * kLanes, b.v[j]);
    else if (left > 0)
      store(p + j * kLanes, b.v[j], int(left));
  }
}

template <int N>
inline void store_block(float* p, const Block<N>& b) {
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) store(p + j * kLanes, b.v[j]);
}

template <int N>
inline Block<N> zero_block() {
  Block<N> b;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) b.v[j] = zero();
  return b;
}

// a·b + c, and a·b, with a scalar or vector a for the whole block.
template <int N>
inline Block<N> fma(F a, const Block<N>& b, const Block<N>& c) {
  Block<N> r;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) r.v[j] = fma(a, b.v[j], c.v[j]);
  return r;
}
template <int N>
inline Block<N> operator*(F a, const Block<N>& b) {
  Block<N> r;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) r.v[j] = a * b.v[j];
  return r;
}
template <int N>
inline Block<N> operator-(const Block<N>& a, const Block<N>& b) {
  Block<N> r;
#pragma GCC unroll 4
  for (int j = 0; j < N; ++j) r.v[j] = a.v[j] - b.v[j];
  return r;
}

// Columns [first, first + count) of head `head` of sequence `sequence`.
struct HeadColumns {
  int64_t sequence, head, first, count;
  const std::atomic<bool>* stop = nullptr;  // looked at between tokens of a sequence that may be long
};

// fn.operator()<N>(columns, worker) for all blocks of up to Max vectors, N the smallest that holds the block.
template <int Max, class Fn>
inline void each_head_columns(Context& cx, int64_t sequences, int64_t nheads, int64_t values, Fn&& fn) {
  constexpr int64_t kWidth = Max * kLanes;
  const int64_t blocks = ceil_div(values, kWidth);
  cx.parallel_stretches(sequences * nheads * blocks, [&](int64_t i, int worker) {
    HeadColumns c{i / blocks / nheads, i / blocks % nheads, i % blocks * kWidth, 0, cx.stop};
    c.count = values - c.first < kWidth ? values - c.first : kWidth;
    if (c.count <= kLanes) return fn.template operator()<1>(c, worker);
    if (c.count <= 2 * kLanes) return fn.template operator()<(Max < 2 ? Max : 2)>(c, worker);
    fn.template operator()<Max>(c, worker);
  });
}

// The same blocks of one head, one after the other: how a chunked form takes sequences too short for chunks, which in a
// step of decoding are all of them.
template <int Max, class Fn>
inline void each_block_of_head(int64_t sequence, int64_t head, int64_t values, Fn&& fn) {
  constexpr int64_t kWidth = Max * kLanes;
  for (int64_t first = 0; first < values; first += kWidth) {
    const HeadColumns c{sequence, head, first, values - first < kWidth ? values - first : kWidth};
    if (c.count <= kLanes)
      fn.template operator()<1>(c);
    else if (c.count <= 2 * kLanes)
      fn.template operator()<(Max < 2 ? Max : 2)>(c);
    else
      fn.template operator()<Max>(c);
  }
}

// Below this length the chunked forms step.
constexpr int64_t kShort = 4;

// Columns of a (key, value) matrix into (key, N vectors) and back.
template <int N>
inline void read_state(const float* state, int64_t keys, int64_t stride, int64_t count, float* S) {
  for (int64_t i = 0; i < keys; ++i) store_block(S + i * N * kLanes, load_block<N>(state + i * stride, count));
}
template <int N>
inline void write_state(const float* S, int64_t keys, int64_t stride, int64_t count, float* state) {
  for (int64_t i = 0; i < keys; ++i) store_block(state + i * stride, load_block<N>(S + i * N * kLanes), count);
}

inline int64_t padded(int64_t n) { return ceil_div(n, kLanes) * kLanes; }

inline float dot(const float* a, const float* b, int64_t n) {
  F s = zero();
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) s = fma(load(a + i), load(b + i), s);
  if (i < n) s = fma(load(a + i, int(n - i)), load(b + i, int(n - i)), s);
  return sum(s);
}

// out = e^in; out has room for padded(n).
inline void exp_row(const float* in, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(out + i, exp(n - i < kLanes ? load(in + i, int(n - i)) : load(in + i)));
}

inline float exp_of(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, exp(set(x)));
  return lanes[0];
}

}  // namespace statespace::STATESPACE_ISA
