#pragma once
// The micro-kernels of quantised weights: codes by activations in int8, summed exactly in 32 bits over the inputs that
// share a scale, then in f32 by the two scales, in the order of k.
//
//   y = Σ_blocks s_x·d·(Σ code·q - zero·Σ q)        for types whose codes have a zero
//   y = Σ_blocks s_x·d·Σ code·q - s_x·min·Σ q       for those that count from a minimum
//
// where x ≈ s_x·q in a block of 32, q from -127 to 127. A tile of M rows of x is, for each 32 of `in`:
//   int32 (M, 8)        four q of each group
//   f32 (M)             s_x
//   32 bits (halves, M) -zero·Σ q as integers, or s_x·Σ q as floats
// For squares (kernels/matmul_int8_squares.h) the first are (M/2, 4, 2, 2): eight bytes of two rows by turns. For words
// int32 (M, 16), two q of 16 bits each, those at even places first, and no sums.
//
// What a row loses by its rounding, about 2^-8 of a value, is a row of its own: q₂ = round(254·(x/s_x - q)) with the
// scale s_x/254, and q₃ once more. Two such planes are 15 bits, three are 23.
#include <array>

#include "kernels/bytes.h"
#include "kernels/matmul_tile.h"
#include "kernels/quantised_panels.h"

namespace statespace::STATESPACE_ISA {

// Rows (times planes) of a tile over an unpacked panel, and of one that unpacks in registers.
#if defined(STATESPACE_ISA_AVX512)
constexpr int kInt8Rows = 6, kInt8Few = 4;
#elif defined(STATESPACE_ISA_AVX2)
constexpr int kInt8Rows = 6, kInt8Few = 2;
#else
constexpr int kInt8Rows = 3, kInt8Few = 2;
#endif

// How the codes of rows and of an unpacked panel lie.
enum class Lay : uint8_t { fours, squares, words };
constexpr int code_words(Lay lay) { return lay == Lay::words ? 16 : 8; }
constexpr int block_words(const Form& f, Lay lay) { return lay == Lay::words ? 17 : 9 + f.halves; }

// What a tile brings into L2 of the next panel while it multiplies: `lines` of 64 bytes with each 32 of `in`. Fetched
// all at once between two tiles they fill what the core has for misses, and the tile waits.
struct NextPanel {
  const uint8_t *at = nullptr, *end = nullptr;
  int64_t lines = 0;
  void fetch() {
    for (int64_t i = 0; i < lines && at < end; ++i, at += 64) prefetch(at);
  }
};

// Where a row begins in a block, in words, and its vector i, in bytes.
constexpr int row_place(int row, Lay lay) {
  return lay == Lay::squares ? row / 2 * 16 + row % 2 * 2 : row * code_words(lay);
}
constexpr int vector_place(int i, Lay lay) { return (lay == Lay::squares ? i + i / 2 * 2 : i) * kLanes; }

// Row `m` of a tile of M rows, and behind it its other planes. As many blocks at a time as vectors have lanes, so that
// largest values and sums are found by transposing squares.
template <bool kPlanes, class T>
void quantise_row(const T* x, int64_t in, const Form& form, int planes, int m, int M, Lay lay, int32_t* to) {
  constexpr int kVectors = 32 / kLanes, kHalf = (kVectors + 1) / 2;
  const int64_t words = M * block_words(form, lay);
  for (int64_t k = 0; k < in; k += 32 * kLanes, x += 32 * kLanes) {
    const int blocks = in - k < 32 * kLanes ? int((in - k) / 32) : kLanes;
    F rest[kPlanes ? kLanes : 1][kVectors], most[kLanes];
    for (int b = 0; b < blocks; ++b) {
      F highest = zero();
#pragma GCC unroll 8
      for (int i = 0; i < kVectors; ++i) {
        const F v = load(x + b * 32 + i * kLanes);
        if constexpr (kPlanes) rest[b][i] = v;
        highest = max(highest, abs(v));
      }
      most[b] = highest;
    }
    for (int b = blocks; b < kLanes; ++b) most[b] = zero();
    const F amax = maxima(most), least = set(1e-30f);
    F scale = amax * set(1.f / 127), inverse = select(less(least, amax), set(127.f) / max(least, amax), zero());
    for (int p = 0; p < planes; ++p, scale = scale * set(1.f / 254), inverse = inverse * set(254.f)) {
      alignas(64) float scales[kLanes], inverses[kLanes], sums_of[2][kLanes];
      store(inverses, inverse);
      if constexpr (kPlanes) store(scales, scale);
      F low[kLanes], high[kLanes];
      for (int b = 0; b < blocks; ++b) {
        int32_t* place = to + b * words + row_place(m + p, lay);
        alignas(32) int8_t bytes[32];
        int8_t* q = lay == Lay::words ? bytes : reinterpret_cast<int8_t*>(place);
        const F own = set(inverses[b]);
        F halves[2] = {zero(), zero()};
#pragma GCC unroll 8
        for (int i = 0; i < kVectors; ++i) {
          F v;
          if constexpr (kPlanes)
            v = rest[b][i];
          else
            v = load(x + b * 32 + i * kLanes);
          const F r = round(v * own);
          if constexpr (kPlanes) rest[b][i] = fnma(r, set(scales[b]), v);
          narrow(q + vector_place(i, lay), r);
          halves[i / kHalf] = halves[i / kHalf] + r;
        }
#if defined(STATESPACE_WORDS)
        if (lay == Lay::words) split_words(bytes, place);
#endif
        low[b] = form.halves == 1 ? halves[0] + halves[1] : halves[0];
        if (form.halves == 2) high[b] = halves[1];
      }
      for (int b = blocks; b < kLanes; ++b) low[b] = high[b] = zero();
      const F first = sums(low), second = form.halves == 2 ? sums(high) : zero();
      // NaN and infinities, which have no code, spoil the row by its scale.
      const F own = fma(zero(), first + second, scale);
      store(scales, own);
      if (form.has_min()) {
        store(sums_of[0], first * own), store(sums_of[1], second * own);
      } else {
        const F factor = set(-float(form.offset()));
        store_ints(sums_of[0], first * factor), store_ints(sums_of[1], second * factor);
      }
      int32_t* at = to + m + p;
      for (int b = 0; b < blocks; ++b, at += words) {
        std::memcpy(at + code_words(lay) * M, scales + b, 4);
        if (lay == Lay::words) continue;
        for (int h = 0; h < form.halves; ++h) std::memcpy(at + (9 + h) * M, sums_of[h] + b, 4);
      }
    }
    to += blocks * words;
  }
}
template <class T>
void quantise_row(const T* x, int64_t in, const Form& form, int planes, int m, int M, Lay lay, int32_t* to) {
  if (planes == 1) return quantise_row<false>(x, in, form, 1, m, M, lay, to);
  quantise_row<true>(x, in, form, planes, m, M, lay, to);
}

// What the codes and heads of a type say, for the kLanes outputs of vector v.
template <DType T>
struct Blocks {
  static constexpr Form kForm = form_of(T);
  static constexpr int kCodes = kByteLanes * kForm.planes();  // bytes of 32 inputs

  // The codes of the eight groups.
  [[gnu::always_inline]] static void unpack(const uint8_t* p, Bytes (&q)[8]) {
    auto plane = [&](int i) { return load_bytes(p + i * kByteLanes); };
    if constexpr (kForm.low == 8) {
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) q[g] = plane(g);
      return;
    }
    if constexpr (kForm.low == 4)
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const Bytes b = plane(j);
        q[j] = field<0, 4>(b), q[j + 4] = field<4, 4>(b);
      }
    if constexpr (kForm.low == 2) fours<0, false>(p, q);
    if constexpr (kForm.high == 2) fours<kForm.low, true>(p + kForm.low * kByteLanes, q);
    if constexpr (kForm.high == 1) {
      const Bytes b = plane(kForm.low);
      q[0] = q[0] | field<0, 1, kForm.low>(b), q[1] = q[1] | field<1, 1, kForm.low>(b);
      q[2] = q[2] | field<2, 1, kForm.low>(b), q[3] = q[3] | field<3, 1, kForm.low>(b);
      q[4] = q[4] | field<4, 1, kForm.low>(b), q[5] = q[5] | field<5, 1, kForm.low>(b);
      q[6] = q[6] | field<6, 1, kForm.low>(b), q[7] = q[7] | field<7, 1, kForm.low>(b);
    }
    if constexpr (kForm.table) {
      static constexpr auto kTable = [] {
        struct {
          uint8_t v[16];
        } t{};
        for (int i = 0; i < 16; ++i) t.v[i] = table_code(T, i);
        return t;
      }();
      const auto table = load_table(kTable.v);
#pragma GCC unroll 8
      for (int g = 0; g < 8; ++g) q[g] = lookup(table, q[g]);
    }
  }
  template <int to, bool add>
  [[gnu::always_inline]] static void fours(const uint8_t* p, Bytes (&q)[8]) {
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      const Bytes b = load_bytes(p + j * kByteLanes);
      Bytes* at = q + 4 * j;
      const Bytes f[4] = {field<0, 2, to>(b), field<2, 2, to>(b), field<4, 2, to>(b), field<6, 2, to>(b)};
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) at[i] = add ? at[i] | f[i] : f[i];
    }
  }

  static F halves(const uint8_t* head, int v) { return load(reinterpret_cast<const f16_t*>(head) + v * kLanes); }
  static F scale(const uint8_t* head, int part, int v) {
    if constexpr (kForm.scales == Scales::exponent) return powers(head + v * kLanes);
    const F d = halves(head, v);
    if constexpr (kForm.scales == Scales::parts)
      return d * load(reinterpret_cast<const int8_t*>(head) + kPanel * (2 + part) + v * kLanes);
    if constexpr (kForm.scales == Scales::parts_min) return d * widen(head + kPanel * (4 + part) + v * kLanes);
    if constexpr (kForm.scales == Scales::nibbles) return d * both(head, part, v)[0];
    return d;
  }
  static F min(const uint8_t* head, int part, int v) {
    const F d = halves(head + 2 * kPanel, v);
    if constexpr (kForm.scales == Scales::parts_min) return d * widen(head + kPanel * (12 + part) + v * kLanes);
    if constexpr (kForm.scales == Scales::nibbles) return d * both(head, part, v)[1];
    return zero() - d;
  }
  // Scale and minimum of a byte.
  static std::array<F, 2> both(const uint8_t* head, int part, int v) {
    const F b = widen(head + kPanel * (4 + part) + v * kLanes), high = floor(b * set(1.f / 16));
    return {fnma(high, set(16.f), b), high};
  }
};

// sums + n groups of codes by x.
template <class Dot, int n>
[[gnu::always_inline]] inline Ints dot_groups(Ints sums, const Bytes* q, const int32_t* x) {
  if constexpr (requires { Dot::kRun; }) {
    static_assert(n % Dot::kRun == 0);
#pragma GCC unroll 8
    for (int g = 0; g < n; g += Dot::kRun) {
      Ints pairs = Dot::first(q[g], set_quad(x + g));
#pragma GCC unroll 8
      for (int i = 1; i < Dot::kRun; ++i) pairs = Dot::add(pairs, q[g + i], set_quad(x + g + i));
      sums = sums + Dot::widen(pairs);
    }
  } else {
#pragma GCC unroll 8
    for (int g = 0; g < n; ++g) sums = Dot::dot(sums, q[g], set_quad(x + g));
  }
  return sums;
}

// out (M, kPanel) = M rows of x times a packed panel, unpacked in registers.
template <DType T, int M, class Dot>
void multiply_packed(const int32_t* x, const uint8_t* panel, int64_t in, float* out) {
  using B = Blocks<T>;
  constexpr Form f = B::kForm;
  constexpr int V = kTileVectors, kBlock = int(dtype_block(T)), kGroups = 8 / f.halves;
  constexpr int64_t kBytes = packed_block_bytes(T);
  F acc[M][V];
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[m][v] = zero();
  for (int64_t k = 0; k < in; k += kBlock, panel += kBytes) {
    const uint8_t* codes = panel + kPanel * head_bytes(f);
    for (int64_t line = 0; line < kPanel * head_bytes(f); line += 64) prefetch(panel + kFar + line);
    for (int b = 0; b < kBlock / 32; ++b, x += M * block_words(f, Lay::fours)) {
      const float* scales = reinterpret_cast<const float*>(x + 8 * M);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v, codes += B::kCodes) {
#pragma GCC unroll 8
        for (int64_t line = 0; line < B::kCodes; line += 64) prefetch(codes + kFar + line);
        Bytes q[8];
        B::unpack(codes, q);
#pragma GCC unroll 2
        for (int h = 0; h < f.halves; ++h) {
          const int part = b * f.halves + h;
          const F scale = B::scale(panel, part, v);
          F min;
          if constexpr (f.has_min()) min = B::min(panel, part, v);
#pragma GCC unroll 4
          for (int m = 0; m < M; ++m) {
            const Ints first = set_int(f.has_min() ? 0 : x[(9 + h) * M + m]);
            const Ints sums = dot_groups<Dot, kGroups>(first, q + h * kGroups, x + m * 8 + h * kGroups);
            acc[m][v] = fma(to_float(sums) * set(scales[m]), scale, acc[m][v]);
            if constexpr (f.has_min()) acc[m][v] = fnma(set(scales[(1 + h) * M + m]), min, acc[m][v]);
          }
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) store(out + m * kPanel + v * kLanes, acc[m][v]);
}

// to (in, kPanel) = the values of a panel.
template <DType T>
void widen_quantised(const uint8_t* panel, int64_t in, float* to) {
  using B = Blocks<T>;
  constexpr Form f = B::kForm;
  constexpr int kBlock = int(dtype_block(T)), kGroups = 8 / f.halves;
  for (int64_t k = 0; k < in; k += kBlock, panel += packed_block_bytes(T)) {
    const uint8_t* codes = panel + kPanel * head_bytes(f);
    for (int b = 0; b < kBlock / 32; ++b, to += 32 * kPanel)
      for (int v = 0; v < kTileVectors; ++v, codes += B::kCodes) {
        Bytes q[8];
        B::unpack(codes, q);
        for (int h = 0; h < f.halves; ++h) {
          const F scale = B::scale(panel, b * f.halves + h, v);
          F offset = set(float(f.offset()));
          if constexpr (f.has_min()) offset = B::min(panel, b * f.halves + h, v);
          float* row = to + h * kGroups * 4 * kPanel + v * kLanes;
          auto put = [&](F code) {
            store(row, f.has_min() ? code * scale - offset : (code - offset) * scale);
            row += kPanel;
          };
          for (int g = h * kGroups; g < (h + 1) * kGroups; ++g)
            put(each_byte<0>(q[g])), put(each_byte<1>(q[g])), put(each_byte<2>(q[g])), put(each_byte<3>(q[g]));
        }
      }
  }
}

}  // namespace statespace::STATESPACE_ISA
