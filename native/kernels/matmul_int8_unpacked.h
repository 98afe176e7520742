#pragma once
// Products in int8 of many rows: a panel is unpacked once, and tiles of rows pass by it.
#include "kernels/matmul_int8.h"

namespace statespace::STATESPACE_ISA {

// An unpacked panel: for each 32 of `in` the codes (8, kTileVectors) as bytes, then f32 scales (halves, kPanel) and,
// where there are some, minima. For squares the codes are (4, kTileVectors, 2, 2, 8): of two outputs eight bytes each.
// For words they are 16 bits (16, kTileVectors), of which the first eight have the even inputs of the groups.
constexpr int64_t unpacked_block_bytes(const Form& f, Lay lay) {
  return kPanel * (4 * code_words(lay) + 4 * f.halves * (f.has_min() ? 2 : 1));
}
template <DType T>
void unpack_panel(const uint8_t* panel, int64_t in, Lay lay, uint8_t* to) {
  using B = Blocks<T>;
  constexpr Form f = B::kForm;
  constexpr int V = kTileVectors, kBlock = int(dtype_block(T));
  for (int64_t k = 0; k < in; k += kBlock, panel += packed_block_bytes(T)) {
    const uint8_t* codes = panel + kPanel * head_bytes(f);
    for (int b = 0; b < kBlock / 32; ++b, to += unpacked_block_bytes(f, lay))
      for (int v = 0; v < V; ++v, codes += B::kCodes) {
        Bytes q[8];
        B::unpack(codes, q);
#if defined(STATESPACE_SQUARES)
        if (lay == Lay::squares)
#pragma GCC unroll 4
          for (int g = 0; g < 8; g += 2) {
            zip_words(q[g], q[g + 1], q[g], q[g + 1]);
            store_bytes(to + (g * V + 2 * v) * kByteLanes, q[g]);
            store_bytes(to + (g * V + 2 * v + 1) * kByteLanes, q[g + 1]);
          }
        else
#elif defined(STATESPACE_WORDS)
        if (lay == Lay::words)  // unrolled, or codes that lie any other way go through memory, too
#pragma GCC unroll 8
          for (int g = 0; g < 8; ++g) {
            Bytes even, odd;
            split_words(q[g], even, odd);
            store_bytes(to + (g * V + v) * kByteLanes, even);
            store_bytes(to + ((8 + g) * V + v) * kByteLanes, odd);
          }
        else
#endif
#pragma GCC unroll 8
          for (int g = 0; g < 8; ++g) store_bytes(to + (g * V + v) * kByteLanes, q[g]);
        float* scales = reinterpret_cast<float*>(to + 4 * code_words(lay) * kPanel) + v * kLanes;
        for (int h = 0; h < f.halves; ++h) {
          store(scales + h * kPanel, B::scale(panel, b * f.halves + h, v));
          if constexpr (f.has_min()) store(scales + (f.halves + h) * kPanel, B::min(panel, b * f.halves + h, v));
        }
      }
  }
}

// How the tiles read an unpacked panel, one whose codes are bytes as they lie, and one of words: kSteps for 32 of `in`,
// which a sum takes together, kOffset where rows have sums to begin with, kMostRun of Form::run().
template <int kHalves_, bool kMin_>
struct Unpacked {
  static constexpr int kHalves = kHalves_, kSteps = 8, kMostRun = 8 / kHalves;
  static constexpr bool kMin = kMin_, kOffset = !kMin;
  static constexpr int64_t kBytes = kPanel * (32 + 4 * kHalves * (kMin ? 2 : 1));  // for 32 of `in`
  static constexpr int kNext = kTileVectors * kByteLanes;                          // from a group to the next one
  static const uint8_t* at(const uint8_t* w, int v) { return w + v * kByteLanes; }
  static Bytes codes(const uint8_t* w, int g, int v) { return load_bytes(at(w, v) + g * kNext); }
  static F scale(const uint8_t* w, int h, int v) {
    return load(reinterpret_cast<const float*>(w + 32 * kPanel) + h * kPanel + v * kLanes);
  }
  static F min(const uint8_t* w, int h, int v) { return scale(w, kHalves + h, v); }
};
struct AsBytes {
  static constexpr int kHalves = 1, kSteps = 8, kMostRun = 0;
  static constexpr bool kMin = false, kOffset = true;
  static constexpr int64_t kBytes = packed_block_bytes(DType::q8_0);
  static constexpr int kNext = kByteLanes;
  static const uint8_t* at(const uint8_t* w, int v) { return w + 2 * kPanel + v * 8 * kByteLanes; }
  static Bytes codes(const uint8_t* w, int g, int v) { return load_bytes(at(w, v) + g * kNext); }
  static F scale(const uint8_t* w, int, int v) { return load(reinterpret_cast<const f16_t*>(w) + v * kLanes); }
};
#if defined(STATESPACE_ISA_AVX512)
// q4_0, unpacked in registers for each tile: by ports that the products leave free.
struct AsNibbles {
  static constexpr int kHalves = 1, kSteps = 8, kMostRun = 8;
  static constexpr bool kMin = false, kOffset = true;
  static constexpr int64_t kBytes = packed_block_bytes(DType::q4_0);
  static Bytes codes(const uint8_t* w, int g, int v) {
    const Bytes b = load_bytes(w + 2 * kPanel + (v * 4 + g % 4) * kByteLanes);
    return g < 4 ? field<0, 4>(b) : field<4, 4>(b);
  }
  static F scale(const uint8_t* w, int, int v) { return AsBytes::scale(w, 0, v); }
};
#endif
struct AsWords {
  static constexpr int kHalves = 1, kSteps = 16, kMostRun = 0;
  static constexpr bool kMin = false, kOffset = false;
  static constexpr int64_t kBytes = kPanel * (64 + 4);
  static Bytes codes(const uint8_t* w, int s, int v) { return load_bytes(w + (s * kTileVectors + v) * kByteLanes); }
  static F scale(const uint8_t* w, int, int v) {
    return load(reinterpret_cast<const float*>(w + 64 * kPanel) + v * kLanes);
  }
};

// out (M, kPanel) = M rows of x times an unpacked panel.
template <int M, class W, class Dot>
void multiply_unpacked(const int32_t* x, const uint8_t* w, int64_t in, float* out, NextPanel next) {
  constexpr int V = kTileVectors, kHalves = W::kHalves, kSteps = W::kSteps / kHalves;
  constexpr bool kMin = W::kMin;
  constexpr bool kRuns = requires { Dot::kRun; };
  constexpr int kRun = [] {
    if constexpr (kRuns)
      return Dot::kRun;
    else
      return kSteps;
  }();
  static_assert(kSteps % kRun == 0);
  constexpr int kRowWords = W::kSteps + 1 + (kMin || W::kOffset ? kHalves : 0);
  F acc[M][V];
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = zero();
  for (int64_t k = 0; k < in; k += 32, x += M * kRowWords, w += W::kBytes) {
    next.fetch();
    const float* scales = reinterpret_cast<const float*>(x + W::kSteps * M);
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h) {
      Ints sums[M][V];
      const auto begin = [&](int m) { return set_int(W::kOffset ? x[(9 + h) * M + m] : 0); };
      if constexpr (!kRuns)
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sums[m][v] = begin(m);
#pragma GCC unroll 8
      for (int r = 0; r < kSteps; r += kRun) {
        [[maybe_unused]] Ints pairs[M][V];
#pragma GCC unroll 16
        for (int i = 0; i < kRun; ++i) {
          const int s = h * kSteps + r + i;
          Bytes q[V];
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) q[v] = W::codes(w, s, v);
#pragma GCC unroll 8
          for (int m = 0; m < M; ++m) {
            const Bytes a = set_quad(x + m * W::kSteps + s);
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v)
              if constexpr (kRuns)
                pairs[m][v] = i ? Dot::add(pairs[m][v], q[v], a) : Dot::first(q[v], a);
              else
                sums[m][v] = Dot::dot(sums[m][v], q[v], a);
          }
        }
        if constexpr (kRuns)
#pragma GCC unroll 8
          for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
            for (int v = 0; v < V; ++v) {
              const Ints fours = Dot::widen(pairs[m][v]);
              sums[m][v] = r ? in_order(sums[m][v] + fours) : W::kOffset ? in_order(fours + begin(m)) : fours;
            }
      }
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        const F scale = W::scale(w, h, v);
        F min;
        if constexpr (kMin) min = W::min(w, h, v);
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m) {
          acc[m][v] = fma(to_float(sums[m][v]) * set(scales[m]), scale, acc[m][v]);
          if constexpr (kMin) acc[m][v] = fnma(set(scales[(1 + h) * M + m]), min, acc[m][v]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + m * kPanel + v * kLanes, acc[m][v]);
}

}  // namespace statespace::STATESPACE_ISA
