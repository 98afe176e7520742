#pragma once
// The micro-kernels: sums over the whole of `in`, held in registers, in the order of k.
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {

// What a tile fetches into L2 for the tiles after it, while it multiplies: a line every few steps of k.
struct Ahead {
  const uint8_t* next = nullptr;
  int64_t every = INT64_MAX / 2;
};

// The first reader of a panel fetches the lines that it comes to kFar bytes later: left to the processor, reading
// memory and multiplying took turns (8 rows of bf16 by all weights of a 130M model: 9.4 ms, with it 6.5).
constexpr int64_t kFar = 8192;
template <bool kFirst>
inline void fetch_far(const void* at) {
  if constexpr (kFirst)
#pragma GCC unroll 4
    for (int64_t line = 0; line < kTileVectors * kLanes * 4; line += 64)
      prefetch(static_cast<const uint8_t*>(at) + kFar + line);
}

// out (M, kPanel) = x (in, M) times w (in, kPanel), of whose outputs the first V vectors are computed.
template <int M, int V, bool kFirst>
inline void multiply_tile(const float* x, const float* w, int64_t in, float* out, Ahead ahead) {
  F acc[M][V];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = zero();
  for (int64_t k = 0; k < in; ahead.next += 64) {
    prefetch(ahead.next);
    const int64_t end = in - k < ahead.every ? in : k + ahead.every;
    for (; k < end; ++k, x += M, w += kPanel) {
      fetch_far<kFirst>(w);
      F b[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) b[v] = load(w + v * kLanes);
#pragma GCC unroll 16
      for (int m = 0; m < M; ++m) {
        const F a = set(x[m]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[m][v] = fma(a, b[v], acc[m][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + m * kPanel + v * kLanes, acc[m][v]);
}

// The same for a number of rows known at run time, 1 … kTileRows, and of outputs: the last panel of a narrow matrix is
// often half empty (80 outputs of Mamba's x_proj: a sixth of its time).
template <bool kFirst, int V, int M>
inline void multiply_rows_of_tile(int rows, const float* x, const float* w, int64_t in, float* out, Ahead ahead) {
  if (rows == M) return multiply_tile<M, V, kFirst>(x, w, in, out, ahead);
  if constexpr (M > 1) multiply_rows_of_tile<kFirst, V, M - 1>(rows, x, w, in, out, ahead);
}
template <bool kFirst>
inline void multiply_tile(int rows, int64_t outputs, const float* x, const float* w, int64_t in, float* out,
                          Ahead ahead) {
  constexpr int V = kTileVectors;
  if (outputs <= V / 2 * kLanes) return multiply_rows_of_tile<false, V / 2, kTileRows>(rows, x, w, in, out, ahead);
  multiply_rows_of_tile<kFirst, V, kTileRows>(rows, x, w, in, out, ahead);
}

// Readers of packed panels, for kernels that widen as they go. A block is kBlock of `in` in kBlock / kParts steps; a
// step yields the values at kParts places of the block, place(step, part).
struct ReadF32 {
  static constexpr DType kDType = DType::f32;
  static constexpr int kBlock = 1, kParts = 1;
  static constexpr int place(int, int) { return 0; }
  static void step(const uint8_t* block, int, F (&b)[1][kTileVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) b[0][v] = load(reinterpret_cast<const float*>(block) + v * kLanes);
  }
};

struct ReadF16 {
  static constexpr DType kDType = DType::f16;
  static constexpr int kBlock = 1, kParts = 1;
  static constexpr int place(int, int) { return 0; }
  static void step(const uint8_t* block, int, F (&b)[1][kTileVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) b[0][v] = load(reinterpret_cast<const f16_t*>(block) + v * kLanes);
  }
};

struct ReadBf16 {
  static constexpr DType kDType = DType::bf16;
  static constexpr int kBlock = 2, kParts = 2;
  static constexpr int place(int, int part) { return part; }
  static void step(const uint8_t* block, int, F (&b)[2][kTileVectors]) {
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v)
      load_pairs(reinterpret_cast<const bf16_t*>(block) + 2 * v * kLanes, b[0][v], b[1][v]);
  }
};

// Calls fn with the reader of a type of weights.
template <class Fn>
void with_reader(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::f16:
      return fn(ReadF16{});
    case DType::bf16:
      return fn(ReadBf16{});
    default:
      return fn(ReadF32{});
  }
}

// out (M, P · kPanel) = x (in, M) times P neighbouring panels, widened as they are read: each of their bytes once.
// Several panels at a time give one row enough independent sums to hide the latency of a multiply-add.
template <class R, int M, int P>
inline void multiply_widening(const float* x, const uint8_t* panel, int64_t stride, int64_t in, float* out) {
  constexpr int V = kTileVectors;
  const int64_t block_bytes = dtype_bytes(R::kDType, kPanel * R::kBlock);
  F acc[P][M][V];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[p][m][v] = zero();
  for (int64_t k = 0; k < in; k += R::kBlock, x += R::kBlock * M, panel += block_bytes) {
    for (int s = 0; s < R::kBlock / R::kParts; ++s) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        F b[R::kParts][V];
        R::step(panel + p * stride, s, b);
#pragma GCC unroll 2
        for (int i = 0; i < R::kParts; ++i)
#pragma GCC unroll 4
          for (int m = 0; m < M; ++m) {
            const F a = set(x[R::place(s, i) * M + m]);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) acc[p][m][v] = fma(a, b[i][v], acc[p][m][v]);
          }
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(out + (m * P + p) * kPanel + v * kLanes, acc[p][m][v]);
}

// A packed panel as f32 (in, kPanel).
template <class R>
inline void widen_panel(const uint8_t* panel, int64_t in, float* out) {
  for (int64_t k = 0; k < in; k += R::kBlock, panel += dtype_bytes(R::kDType, kPanel * R::kBlock))
    for (int s = 0; s < R::kBlock / R::kParts; ++s) {
      F b[R::kParts][kTileVectors];
      R::step(panel, s, b);
      for (int i = 0; i < R::kParts; ++i)
        for (int v = 0; v < kTileVectors; ++v) {
          if (const int64_t at = k + R::place(s, i); at < in) store(out + at * kPanel + v * kLanes, b[i][v]);
        }
    }
}

}  // namespace statespace::STATESPACE_ISA
