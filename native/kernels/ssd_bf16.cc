#include "kernels/ssd_bf16.h"

#include "kernels/tile_block.h"

#if defined(STATESPACE_ISA_AVX512)
// Functions of this file that need the extension say so themselves: the rest of the library must run without it.
#define STATESPACE_BF16 __attribute__((target("avx512bf16")))

namespace statespace::STATESPACE_ISA::ssd {
namespace {

// Rows of a tile of sums; with two vectors of columns they hide the latency of the pair product (6 cycles).
constexpr int kRows = 8;
// What rounds up to an infinite bf16 is infinite times this.
constexpr float kRounded = 1.005f;

// Two vectors as pairs, `low` in the low halves.
STATESPACE_BF16 inline __m512i pair(F low, F high) {
  alignas(64) static constexpr uint16_t kInterleave[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), (__m512i)_mm512_cvtne2ps_pbh(high.v, low.v));
}

// Pairs of rows (rows / 2, width) from f32 rows; rows is even.
STATESPACE_BF16 void pair_rows(const float* from, int64_t rows, int64_t width, uint32_t* out) {
  for (int64_t r = 0; r < rows; r += 2, from += 2 * width)
    for (int64_t i = 0; i < width; i += kLanes, out += kLanes)
      _mm512_storeu_si512(out, pair(load(from + i), load(from + width + i)));
}

// X (q / 2, p) = dt·x and W = X decayed to the end of the chunk, as pairs; tokens from `count` on are 0. Whether all of
// X is finite.
STATESPACE_BF16 bool pair_inputs(const Ssd& op, const Sizes& z, int64_t head, int64_t token, int64_t count,
                                 const Times& times, float* left, const Bf16Chunk& b) {
  for (int64_t s = 0; s < count; s += kLanes) store(left + s, times.decay_to(count - 1, s));
  const bf16_t* x = op.x.as<bf16_t>() + token * op.x.row_stride + head * z.headdim;
  uint32_t *X = b.X_pairs, *W = b.W_pairs;
  F seen = zero();  // 0, or NaN
  for (int64_t s = 0; s < count; s += 2, x += 2 * op.x.row_stride) {
    const bool second = s + 1 < count;
    const F dt0 = set(times.dt[s]), dt1 = set(second ? times.dt[s + 1] : 0.f);
    const F left0 = set(left[s]), left1 = set(second ? left[s + 1] : 0.f);
    for (int64_t i = 0; i < z.p; i += kLanes, X += kLanes, W += kLanes) {
      F x0, x1 = zero();
      if (i + kLanes <= z.headdim) {
        x0 = dt0 * load(x + i);
        if (second) x1 = dt1 * load(x + op.x.row_stride + i);
      } else {
        const int n = int(z.headdim - i);
        x0 = dt0 * load(x + i, n);
        if (second) x1 = dt1 * load(x + op.x.row_stride + i, n);
      }
      seen = fma(x0 * set(kRounded), zero(), fma(x1 * set(kRounded), zero(), seen));
      _mm512_storeu_si512(X, pair(x0, x1));
      _mm512_storeu_si512(W, pair(left0 * x0, left1 * x1));
    }
  }
  const int64_t missing = (z.q / 2 - (count + 1) / 2) * z.p * int64_t(sizeof(uint32_t));
  std::memset(X, 0, missing), std::memset(W, 0, missing);
  return sum(seen) == 0;
}

// M (queries, keys) = G times the decay between key and query, 0 where the key comes later; of keys as many as the
// products of `rows` queries read.
STATESPACE_BF16 void mask_scores(const Sizes& z, const float* G, const Times& times, int64_t count, int64_t rows,
                                 bf16_t* M) {
  alignas(64) float index[kLanes];
  for (int i = 0; i < kLanes; ++i) index[i] = float(i);
  const F lane = load(index);
  for (int64_t t = 0; t < count; ++t) {
    for (int64_t s = 0; s < t / rows * rows + rows; s += kLanes) {
      const F m = load(G + t * z.q + s) * times.decay_to(t, s);
      const F seen = s + kLanes <= t + 1 ? m : select(less(set(float(t - s)), lane), zero(), m);
      _mm256_storeu_si256((__m256i*)(M + t * z.q + s), (__m256i)_mm512_cvtneps_pbh(seen.v));
    }
  }
}

// tile[m][v] += Σ_k a[m][k] · b[k][v] over `depth` pairs; element (m, k) of a is a[m·row + k·column].
template <int kVectors>
STATESPACE_BF16 inline void accumulate(const uint32_t* a, int64_t row, int64_t column, const uint32_t* b,
                                       int64_t b_stride, int64_t depth, __m512 (&tile)[kRows][kVectors]) {
  for (int64_t k = 0; k < depth; ++k, a += column, b += b_stride) {
    __m512bh v[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) v[j] = (__m512bh)_mm512_loadu_si512(b + j * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const __m512bh x = (__m512bh)_mm512_set1_epi32(int32_t(a[m * row]));
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) tile[m][j] = _mm512_dpbf16_ps(tile[m][j], x, v[j]);
    }
  }
}

// out (queries t … t + kRows, columns from p) = decay · C S + M X
template <int kVectors>
STATESPACE_BF16 void outputs(const Sizes& z, const Bf16Chunk& b, int64_t t, int64_t p, int64_t count) {
  __m512 tile[kRows][kVectors] = {};
  accumulate<kVectors>(b.C_pairs + t * z.n / 2, z.n / 2, 1, b.S_pairs + p, z.p, z.n / 2, tile);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) tile[m][j] = _mm512_mul_ps(tile[m][j], _mm512_set1_ps(b.decay[t + m]));
  const int64_t seen = t + kRows < count ? t + kRows : count;
  accumulate<kVectors>(reinterpret_cast<const uint32_t*>(b.M + t * z.q), z.q / 2, 1, b.X_pairs + p, z.p, (seen + 1) / 2,
                       tile);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) _mm512_storeu_ps(b.out + (t + m) * z.p + p + j * kLanes, tile[m][j]);
}

// S (states n … n + kRows, columns from p) = decay · S + Bᵀ W
template <int kVectors>
STATESPACE_BF16 void states(const Sizes& z, const Bf16Chunk& b, int64_t n, int64_t p, int64_t count, float* S) {
  __m512 tile[kRows][kVectors];
  const __m512 decay = _mm512_set1_ps(b.decay[count - 1]);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j)
      tile[m][j] = _mm512_mul_ps(decay, _mm512_loadu_ps(S + (n + m) * z.p + p + j * kLanes));
  accumulate<kVectors>(b.B_pairs + n, 1, z.n, b.W_pairs + p, z.p, (count + 1) / 2, tile);
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m)
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) _mm512_storeu_ps(S + (n + m) * z.p + p + j * kLanes, tile[m][j]);
}

// The products of one chunk and head by pairs of bf16, a vector of columns at a time.
struct Vectors {
  static constexpr int64_t kQueries = kRows;
  static Sizes sizes(const Sizes& z) { return z; }
  static void begin() {}
  static void end() {}
  static void pair_keys(const Sizes& z, const Bf16Chunk& b, int64_t count) {
    pair_rows(b.B, round_up(count, 2), z.n, b.B_pairs);
  }
  static void outputs(const Sizes& z, const Bf16Chunk& b, int64_t count, const NextRows& next) {
    for (int64_t t = 0; t < count; t += kRows) {
      next.fetch(t, kRows);
      column_panels(0, z.p, [&]<int kVectors>(int64_t p) { ssd::outputs<kVectors>(z, b, t, p, count); });
    }
  }
  static void states(const Sizes& z, const Bf16Chunk& b, int64_t count, float* S) {
    for (int64_t n = 0; n < z.n; n += kRows)
      column_panels(0, z.p, [&]<int kVectors>(int64_t p) { ssd::states<kVectors>(z, b, n, p, count, S); });
  }
};

#if defined(STATESPACE_TILES)

// rows (count, width) ∘= factor(row)
template <class Fn>
inline void scale_rows(float* rows, int64_t count, int64_t width, Fn&& factor) {
  for (int64_t r = 0; r < count; ++r, rows += width) {
    const F by = set(factor(r));
    for (int64_t i = 0; i < width; i += kLanes) store(rows + i, by * load(rows + i));
  }
}

// out (rows, n) in bf16 = rows of f32
STATESPACE_BF16 void round_rows(const float* from, int64_t values, bf16_t* out) {
  for (int64_t i = 0; i < values; i += kLanes)
    _mm256_storeu_si256((__m256i*)(out + i), (__m256i)_mm512_cvtneps_pbh(load(from + i).v));
}

// The same on a matrix unit: blocks of 32 queries or states by 32 columns, tokens and states 32 at a time.
template <class Unit>
struct TileBlocks {
  static constexpr int64_t kQueries = kBlockSide;
  static Sizes sizes(Sizes z) {
    z.n = round_up(z.n, kTileDepth), z.q = round_up(z.q, kTileDepth);
    return z;
  }
  static void begin() { Unit::begin(); }
  static void end() { Unit::end(); }

  template <bool kAdd>
  static void multiply(const Sizes& z, TileRows a, const uint32_t* b, int64_t depth, float* c) {
    const int64_t stride = z.p * int64_t(sizeof(float));  // of pairs and of sums
    column_panels(0, z.p, [&]<int kVectors>(int64_t p) {
      multiply_block<Unit, kVectors, kAdd>(a, {b + p, stride}, ceil_div(depth, kTileDepth), c + p, stride);
    });
  }
  // Bᵀ (n, q), in the place of its pairs.
  static void pair_keys(const Sizes& z, const Bf16Chunk& b, int64_t) {
    std::memset(b.Bt + z.d_state * z.q, 0, size_t((z.n - z.d_state) * z.q) * sizeof(float));
    round_rows(b.Bt, z.n * z.q, reinterpret_cast<bf16_t*>(b.B_pairs));
  }
  static void outputs(const Sizes& z, const Bf16Chunk& b, int64_t count, const NextRows& next) {
    for (int64_t t = 0; t < count; t += kBlockSide) {
      next.fetch(t, kBlockSide);
      float* out = b.out + t * z.p;
      multiply<false>(z, {b.C_pairs + t * z.n / 2, z.n * 2}, b.S_pairs, z.n, out);
      scale_rows(out, kBlockSide, z.p, [&](int64_t r) { return b.decay[t + r]; });
      multiply<true>(z, {b.M + t * z.q, z.q * 2}, b.X_pairs, t + kBlockSide, out);
    }
  }
  static void states(const Sizes& z, const Bf16Chunk& b, int64_t count, float* S) {
    scale_rows(S, z.n, z.p, [&](int64_t) { return b.decay[count - 1]; });
    for (int64_t n = 0; n < z.n; n += kBlockSide)
      multiply<true>(z, {b.B_pairs + n * z.q / 2, z.q * 2}, b.W_pairs, count, S + n * z.p);
  }
};

#endif

// Rows of C as pairs of states, zeros behind the last state and token.
void read_queries(const Ssd& op, const Sizes& z, int64_t group, int64_t token, int64_t count, const Bf16Chunk& b) {
  const bf16_t* C = op.C.as<bf16_t>() + token * op.C.row_stride + group * z.d_state;
  std::memset(b.C_pairs, 0, size_t(z.q * z.n / 2) * sizeof(uint32_t));
  for (int64_t t = 0; t < count; ++t)
    std::memcpy(b.C_pairs + t * z.n / 2, C + t * op.C.row_stride, size_t(z.d_state) * sizeof(bf16_t));
}

// G (queries, keys) = C Bᵀ, for all heads of the group.
void scores(const Sizes& z, const Bf16Chunk& b, int64_t count) {
  transpose(b.B, z.n, z.d_state, count, b.Bt, z.q, z.q);
  for (int64_t t = 0; t < count; t += kTileHeight)
    column_panels(0, round_up(t + kTileHeight < count ? t + kTileHeight : count, kLanes), [&]<int kVectors>(int64_t s) {
      Tile<kVectors> tile;
      each_vector<kVectors>([&](int m, int v) { tile[m][v] = zero(); });
      accumulate_rows<kVectors>(b.C + t * z.n, z.n, b.Bt + s, z.q, z.d_state, tile);
      each_vector<kVectors>([&](int m, int v) { store(b.G + (t + m) * z.q + s + v * kLanes, tile[m][v]); });
    });
}

template <class Products>
void chunked_bf16(const Ssd& op, const Sizes& sizes, int64_t head, int64_t heads, int64_t begin, int64_t end,
                  float* state, Arena arena, const Context& cx) {
  const Sizes z = Products::sizes(sizes);
  const Bf16Chunk b(z, arena);
  Times times(arena.take(Times::floats(z.chunk)), z.chunk);
  float* S = arena.take(heads * z.n * z.p);
  const int64_t state_size = z.headdim * z.d_state, group = z.group(head);
  for (int64_t h = 0; h < heads; ++h) load_state(z, state + h * state_size, S + h * z.n * z.p);

  Products::begin();
  for (int64_t t = begin; t < end; t += z.chunk) {
    if (is_stopped(cx.stop)) break;  // the unit is given back before anything is thrown
    const int64_t count = end - t < z.chunk ? end - t : z.chunk;
    copy_rows(op.C, t, count, group * z.d_state, z.d_state, b.C, z.n);
    copy_rows(op.B, t, count, group * z.d_state, z.d_state, b.B, z.n);
    std::memset(b.B + count * z.n, 0, size_t((z.q - count) * z.n) * sizeof(float));
    read_queries(op, z, group, t, count, b);
    scores(z, b, count);
    Products::pair_keys(z, b, count);
    for (int64_t h = 0; h < heads; ++h) {
      float* Sh = S + h * z.n * z.p;
      times.fill(op, head + h, t, count);
      store_from_start(times, 0, count, b.decay);
      if (!pair_inputs(op, z, head + h, t, count, times, b.left, b)) {
        // Zeros times these would reach the tokens before them.
        float* h_state = state + h * state_size;
        store_state(z, Sh, h_state);
        recurrent(op, sizes, head + h, t, t + count, h_state, arena, cx);
        load_state(z, h_state, Sh);
        continue;
      }
      mask_scores(z, b.G, times, count, Products::kQueries, b.M);
      pair_rows(Sh, z.n, z.p, b.S_pairs);
      const bool same = h + 1 < heads;
      const NextRows next{&op, same ? t : t + count,
                          same                        ? count
                          : end - t - count < z.chunk ? end - t - count
                                                      : z.chunk,
                          head + (same ? h + 1 : 0)};
      Products::outputs(z, b, count, next);
      Products::states(z, b, count, Sh);
      finish_rows(op, z, head + h, t, count, op.x.as<bf16_t>(), b.out);
    }
  }
  Products::end();
  cx.check_stop();
  for (int64_t h = 0; h < heads; ++h) store_state(z, S + h * z.n * z.p, state + h * state_size);
}

}  // namespace

bool multiplies_bf16(const Ssd& op) {
  return op.x.dtype == DType::bf16 && op.B.dtype == DType::bf16 && op.C.dtype == DType::bf16 &&
         __builtin_cpu_supports("avx512bf16");
}

int64_t bf16_floats(const Sizes& z, int64_t heads, TileUnit unit) {
#if defined(STATESPACE_TILES)
  const Sizes padded = unit == TileUnit::none ? z : TileBlocks<AmxTiles>::sizes(z);
#else
  const Sizes& padded = z;
#endif
  return Bf16Chunk::floats(padded) + heads * padded.n * padded.p + recurrent_floats(z) + 16;
}

void chunked_bf16(const Ssd& op, const Sizes& z, int64_t head, int64_t heads, int64_t begin, int64_t end, float* state,
                  Arena arena, const Context& cx) {
#if defined(STATESPACE_TILES)
  if (cx.tiles == TileUnit::amx)
    return chunked_bf16<TileBlocks<AmxTiles>>(op, z, head, heads, begin, end, state, arena, cx);
  if (cx.tiles == TileUnit::emulated)
    return chunked_bf16<TileBlocks<EmulatedTiles>>(op, z, head, heads, begin, end, state, arena, cx);
#endif
  chunked_bf16<Vectors>(op, z, head, heads, begin, end, state, arena, cx);
}

}  // namespace statespace::STATESPACE_ISA::ssd

#endif
