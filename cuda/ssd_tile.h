#pragma once
// SSD's products over a tile of 64 tokens, 64 channels of a head and 32 states at a time, on tensor cores: TF32 with
// each f32 operand split in two, a·b = high·high + high·low + low·high, which leaves an error of about 2^-21; operands
// that are TF32 values already (f16, bf16) need no second part.
#include "ssd.h"

namespace statespace::cuda {

constexpr int kTile = 64, kSlice = 32, kSsdThreads = 256;

// Paddings keep the fragments' loads free of bank conflicts.
struct alignas(16) SsdShared {
  float x[kTile][kTile + 8];  // (keys, channels)
  union {
    struct {
      float B[kTile][kSlice + 4];  // (keys, states)
      float C[kTile][kSlice + 4];  // (queries, states)
      float S[kTile][kSlice + 4];  // (channels, states): the state before the tile
    } slice;
    float M[kTile][kTile + 4];  // (queries, keys): C·B, decay and dt
  };
  // Sums of dt·A grow without bound while their differences matter to the last digit: they are held in two floats, and
  // only differences ≤ 0 are exponentiated.
  struct Times {
    float high[kTile], low[kTile];
  } keys, queries;
  float dt[kTile];      // of the keys
  bool plain;           // all x so far were finite
  float weight[kTile];  // dt and the decay from a key to the end of the tile
};

template <int kCount>
struct Split {
  float high[kCount], low[kCount];
};
template <bool kExact, int kCount>
__device__ inline Split<kCount> split(const float (&v)[kCount]) {
  Split<kCount> s;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    s.high[i] = kExact ? v[i] : tf32(v[i]);
    s.low[i] = kExact ? 0 : tf32(v[i] - s.high[i]);
  }
  return s;
}
template <bool kExactA, bool kExactB>
__device__ inline void multiply(float (&d)[4], const Split<4>& a, const Split<2>& b) {
  if constexpr (!kExactA) mma_tf32(d, a.low, b.high);
  if constexpr (!kExactB) mma_tf32(d, a.high, b.low);
  mma_tf32(d, a.high, b.high);
}

// A warp's part of a 64 x 64 result: 16 rows, four times 8 columns.
using Part = float[4][4];

// One block's place: eight warps, 4 down and 2 across.
struct SsdBlock {
  const SsdArgs& a;
  SsdShared& s;
  int head, channel;  // first channel of the panel

  __device__ static int down() { return warp() % 4 * 16; }
  __device__ static int across() { return warp() / 4 * 32; }
  __device__ static int row(int i) { return down() + lane() / 4 + i / 2 * 8; }
  __device__ static int column(int j, int i) { return across() + 8 * j + lane() % 4 * 2 + i % 2; }

  // Fragments of a row-major matrix: rows from r and columns from c as they lie, or transposed.
  template <int kWidth>
  __device__ static void rows_of(const float (*m)[kWidth], int r, int c, float (&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) out[i] = m[r + lane() / 4 + i % 2 * 8][c + lane() % 4 + i / 2 * 4];
  }
  // b[k][n] = m[n][k]
  template <int kWidth>
  __device__ static void columns_of(const float (*m)[kWidth], int n, int k, float (&out)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) out[i] = m[n + lane() / 4][k + lane() % 4 + 4 * i];
  }
  // b[k][n] = m[k][n]
  template <int kWidth>
  __device__ static void square_of(const float (*m)[kWidth], int k, int n, float (&out)[2]) {
#pragma unroll
    for (int i = 0; i < 2; ++i) out[i] = m[k + lane() % 4 + 4 * i][n + lane() / 4];
  }

  __device__ void load_x(int token, int count) const {
    for (int i = int(threadIdx.x); i < kTile * kTile; i += kSsdThreads) {
      const int t = i / kTile, p = i % kTile;
      const bool inside = t < count && channel + p < a.headdim;
      const float x = inside ? a.x(token + t, int64_t(head) * a.headdim + channel + p) : 0;
      if (!(fabsf(x) <= FLT_MAX)) s.plain = false;
      s.x[t][p] = x;
    }
  }
  __device__ void load_slice(float (*to)[kSlice + 4], const FloatRows& from, int token, int count, int n0) const {
    const int64_t first = int64_t(a.group(head)) * a.d_state + n0;
    for (int i = int(threadIdx.x); i < kTile * kSlice; i += kSsdThreads) {
      const int t = i / kSlice, n = i % kSlice;
      to[t][n] = t < count && n0 + n < a.d_state ? from(token + t, first + n) : 0;
    }
  }
  // state: of this head.
  __device__ void load_state(global<const float> state, bool zero, int n0) const {
    for (int i = int(threadIdx.x); i < kTile * kSlice; i += kSsdThreads) {
      const int p = i / kSlice, n = i % kSlice;
      const bool inside = !zero && channel + p < a.headdim && n0 + n < a.d_state;
      s.slice.S[p][n] = inside ? state[int64_t(channel + p) * a.d_state + n0 + n] : 0;
    }
  }

  // The products below leave out whole fragments behind the last query or key.

  // out += C·Bᵀ of this slice; with `causal`, only what is on or below the diagonal.
  template <bool kExact>
  __device__ void group_scores(int queries, int keys, bool causal, Part& out) const {
    if (down() >= queries) return;
#pragma unroll
    for (int k = 0; k < kSlice; k += 8) {
      float c[4];
      rows_of(s.slice.C, down(), k, c);
      const Split<4> rows = split<kExact>(c);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (across() + 8 * j >= keys || (causal && across() + 8 * j > down() + 15)) break;
        float b[2];
        columns_of(s.slice.B, across() + 8 * j, k, b);
        multiply<kExact, kExact>(out[j], rows, split<kExact>(b));
      }
    }
  }
  // out += C·Sᵀ of this slice
  template <bool kExact>
  __device__ void read_state(int queries, Part& out) const {
    if (down() >= queries) return;
#pragma unroll
    for (int k = 0; k < kSlice; k += 8) {
      float c[4];
      rows_of(s.slice.C, down(), k, c);
      const Split<4> rows = split<kExact>(c);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float b[2];
        columns_of(s.slice.S, across() + 8 * j, k, b);
        multiply<kExact, false>(out[j], rows, split<false>(b));
      }
    }
  }
  // The state after the tile: decay·S + (weight·x)ᵀ·B, of this slice.
  template <bool kExact>
  __device__ void update_state(int keys, global<float> state, float decay, int n0) const {
    const int states = warp() / 4 * 16;
    float out[2][4] = {};
#pragma unroll
    for (int k = 0; k < kTile; k += 8) {
      if (k >= keys) break;
      float x[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = k + lane() % 4 + i / 2 * 4;
        x[i] = s.weight[t] * s.x[t][down() + lane() / 4 + i % 2 * 8];
      }
      const Split<4> rows = split<false>(x);
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        float b[2];
        square_of(s.slice.B, k, states + 8 * j, b);
        multiply<false, kExact>(out[j], rows, split<kExact>(b));
      }
    }
#pragma unroll
    for (int j = 0; j < 2; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int p = row(i), n = states + 8 * j + lane() % 4 * 2 + i % 2;
        if (channel + p < a.headdim && n0 + n < a.d_state)
          state[int64_t(channel + p) * a.d_state + n0 + n] = decay * s.slice.S[p][n] + out[j][i];
      }
  }
  // M = scores · decay from key to query · dt; zero where the key comes later.
  __device__ void mask_scores(bool causal, const Part& scores) const {
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int t = row(i), k = column(j, i);
        const float since = (s.queries.high[t] - s.keys.high[k]) + (s.queries.low[t] - s.keys.low[k]);
        s.M[t][k] = causal && k > t ? 0 : scores[j][i] * expf(since) * s.dt[k];
      }
  }
  // out += M·x. Zeros of M times what is not finite would reach queries before it: such a tile is summed without them.
  template <bool kExact>
  __device__ void read_inputs(int queries, int keys, bool causal, Part& out) const {
    if (down() >= queries) return;
    if (!s.plain) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i)
          for (int k = 0; k < keys && !(causal && k > row(i)); ++k) out[j][i] += s.M[row(i)][k] * s.x[k][column(j, i)];
      return;
    }
#pragma unroll
    for (int k = 0; k < kTile; k += 8) {
      if (k >= keys || (causal && k > down() + 15)) break;
      float m[4];
      rows_of(s.M, down(), k, m);
      const Split<4> rows = split<false>(m);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        float x[2];
        square_of(s.x, k, across() + 8 * j, x);
        multiply<false, kExact>(out[j], rows, split<kExact>(x));
      }
    }
  }
  // Decays what came from the state before the tile to each query.
  __device__ void decay_from_start(Part& out) const {
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i) out[j][i] *= expf(s.queries.high[row(i)] + s.queries.low[row(i)]);
  }
  __device__ void store(int token, int count, const Part& out) const {
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int i = 0; i < 4; ++i)
        if (row(i) < count && channel + column(j, i) < a.headdim)
          a.store(token + row(i), head, channel + column(j, i), out[j][i]);
  }
};

// The sum of dt·A up to each of 32 tokens, a lane's own included, on top of `before`.
__device__ inline double running_sum(double v, double before) {
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const double left = shuffle_up(v, offset);
    if (lane() >= offset) v += left;
  }
  return before + v;
}

}  // namespace statespace::cuda
