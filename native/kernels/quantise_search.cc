// Blocks whose scales are searched: each part of a block gets the best of many least-squares fits, the parts' scales
// are rounded to the integers that the block holds, and these are improved with what they really decode to.
//
// Vectors of 16 lanes on every machine, summed in one order: a file's bytes do not depend on where it was written.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu_tables.h"
#include "core/blocks.h"
#include "core/conversions.h"
#include "isa/simd.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // all that takes or returns vectors is inlined

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int kWide = 16;
typedef float Wide __attribute__((vector_size(64)));
typedef int32_t WideInts __attribute__((vector_size(64)));
typedef float Half __attribute__((vector_size(32)));
typedef float Quarter __attribute__((vector_size(16)));

[[gnu::always_inline]] inline Wide wide(float x) { return Wide{} + x; }
[[gnu::always_inline]] inline Wide larger(Wide a, Wide b) { return a > b ? a : b; }
[[gnu::always_inline]] inline Wide smaller(Wide a, Wide b) { return a < b ? a : b; }
[[gnu::always_inline]] inline Wide whole(Wide x) {
  return __builtin_convertvector(__builtin_convertvector(x, WideInts), Wide);
}
[[gnu::always_inline]] inline float total(Wide v) {
  const Half h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  Quarter q = __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
  q += __builtin_shufflevector(q, q, 2, 3, 0, 1);
  return q[0] + q[1];
}

// Values with the weights of their squared errors, N vectors.
template <int N>
struct Part {
  Wide x[N], w[N];
  Part(const float* values, const float* weights) {
    std::memcpy(x, values, sizeof x), std::memcpy(w, weights, sizeof w);
  }
  // fn(x, w), of each vector
  template <class Fn>
  [[gnu::always_inline]] void each(Fn&& fn) const {
#pragma GCC unroll 2
    for (int i = 0; i < N; ++i) fn(x[i], w[i]);
  }
};

void put_half(uint8_t* to, float x) {
  f16_t half;
  from_float(x, half);
  std::memcpy(to, &half, 2);
}
float rounded_half(float x) {
  f16_t half;
  from_float(x, half);
  return to_float(half);
}

// The nearest of 0 … most.
int code_of(float scaled, int most) { return int(std::min(std::max(scaled, 0.f), float(most)) + 0.5f); }
[[gnu::always_inline]] inline Wide codes_of(Wide scaled, int most) {
  return whole(smaller(larger(scaled, wide(0)), wide(float(most))) + 0.5f);
}
void put_codes(Wide codes, uint8_t* to) {
  const WideInts q = __builtin_convertvector(codes, WideInts);
  for (int i = 0; i < kWide; ++i) to[i] = uint8_t(q[i]);
}

// x ≈ scale · q - min with q in 0 … most and min ≥ 0.
struct Affine {
  float scale = 0, min = 0;
};

template <int N>
float affine_error(const Part<N>& p, int most, float scale, float min) {
  const float inverse = scale > 0 ? 1 / scale : 0;
  Wide error{};
  p.each([&](const Wide& x, const Wide& w) __attribute__((always_inline)) {
    const Wide e = x + min - scale * codes_of((x + min) * inverse, most);
    error += w * e * e;
  });
  return total(error);
}

// Σwq, Σwq² and Σwqx.
struct Sums {
  float q = 0, qq = 0, qx = 0;
};
template <int N>
[[gnu::always_inline]] inline Sums affine_sums(const Part<N>& p, int most, float inverse, float min) {
  Wide q{}, qq{}, qx{};
  p.each([&](const Wide& x, const Wide& w) __attribute__((always_inline)) {
    const Wide code = codes_of((x + min) * inverse, most), wq = w * code;
    q += wq, qq += wq * code, qx += wq * x;
  });
  return {total(q), total(qq), total(qx)};
}

template <int N>
Affine fit_affine(const Part<N>& p, int most) {
  Wide least{}, highest = p.x[0], weight{}, weighted{};
  p.each([&](const Wide& x, const Wide& w) __attribute__((always_inline)) {
    least = smaller(least, x), highest = larger(highest, x), weight += w, weighted += w * x;
  });
  float low = 0, high = highest[0];
  for (int i = 0; i < kWide; ++i) low = std::min(low, least[i]), high = std::max(high, highest[i]);
  const float sw = total(weight), swx = total(weighted);
  if (!(high > low) || !(sw > 0)) return {0, -low};
  Affine best;
  float most_explained = 0;
  // The codes that (inverse, min) give, then the best scale and min for those codes.
  const auto refit = [&](float inverse, float min) {
    const auto [sq, sqq, sqx] = affine_sums(p, most, inverse, min);
    if (!(sqq > 0)) return;
    const float determinant = sw * sqq - sq * sq;
    Affine a{sqx / sqq, 0};
    float explained = sqx * sqx / sqq;  // how much less the error is than Σwx²
    if (determinant > 0) {
      const float offset = (sqq * swx - sq * sqx) / determinant;
      if (offset < 0) {
        a = {(sw * sqx - swx * sq) / determinant, -offset};
        explained = a.scale * sqx + offset * swx;
      }
    }
    if (a.scale > 0 && explained > most_explained * (1 + 1e-6f)) best = a, most_explained = explained;
  };
  // Two bits have many local optima, so more is tried for them.
  const int steps = most == 3 ? 24 : 20;
  for (const float share : {1.f, 0.85f, 0.7f}) {
    for (int i = steps; i >= 0; --i)  // of equal ones the smallest scale: it leaves the others finer steps
      refit((float(most) + (float(i) / float(steps) - 0.6f) * 2) / (high - share * low), -share * low);
    if (most > 3) break;
  }
  for (int i = 0; i < 3 && best.scale > 0; ++i) refit(1 / best.scale, best.min);
  return best.scale > 0 ? best : Affine{(high - low) / float(most), -low};
}

// q4_k, q5_k and q2_k: kParts parts, integers up to kMost for scales and mins, codes up to `most`.
template <int kParts, int kMost>
struct AffineBlock {
  static constexpr int n = 256 / kParts;
  using P = Part<n / kWide>;
  // What is tried: d and dmin as f16 holds them, the integers, and Σ over each part's codes.
  struct Try {
    float d = 0, dmin = 0;
    uint8_t scale[kParts] = {}, min[kParts] = {};
    Sums sums[kParts];
  };
  Try best;
  uint8_t code[256];

  AffineBlock(const float* x, const float* w, int most) : x_(x), w_(w), most_(most) {
    Affine fit[kParts];
    float largest_scale = 0, largest_min = 0;
    for (int j = 0; j < kParts; ++j) {
      const P p(x + n * j, w + n * j);
      fit[j] = fit_affine(p, most);
      largest_scale = std::max(largest_scale, fit[j].scale), largest_min = std::max(largest_min, fit[j].min);
      Wide weight{}, weighted{};
      p.each([&](const Wide& v, const Wide& u) __attribute__((always_inline)) { weight += u, weighted += u * v; });
      weight_[j] = total(weight), weighted_[j] = total(weighted);
    }
    // The largest scale and min need not get the largest integers: a few starts, the best of which stays.
    constexpr int kUnder[3][2] = {{0, 0}, {kMost / 8, 0}, {0, kMost / 8}};
    float least = INFINITY;
    for (const auto& [under, under_min] : kUnder) {
      Try t;
      t.d = rounded_half(largest_scale / float(kMost - under));
      t.dmin = rounded_half(largest_min / float(kMost - under_min));
      for (int j = 0; j < kParts; ++j) {
        t.scale[j] = uint8_t(t.d > 0 ? code_of(fit[j].scale / t.d, kMost) : 0);
        t.min[j] = uint8_t(t.dmin > 0 ? code_of(fit[j].min / t.dmin, kMost) : 0);
      }
      float error = improve(t);
      for (int round = 0; round < 3; ++round) {
        Try other = t;
        refit(other);
        const float e = improve(other);
        if (!(e < error)) break;
        t = other, error = e;
      }
      if (error < least || least == INFINITY) best = t, least = error;
    }
    for (int e = 0; e < 256; e += kWide) {
      const float step = best.d * float(best.scale[e / n]), offset = best.dmin * float(best.min[e / n]);
      Wide v;
      std::memcpy(&v, x + e, sizeof v);
      put_codes(codes_of((v + offset) * (step > 0 ? 1 / step : 0), most), code + e);
    }
  }

 private:
  // Each part's scale and min with the d and dmin that there are. Returns the error.
  float improve(Try& t) const {
    float sum = 0;
    for (int j = 0; j < kParts; ++j) {
      const P p(x_ + n * j, w_ + n * j);
      const int s0 = t.scale[j], m0 = t.min[j], reach = most_ == 3 ? 2 : 1;
      float least = INFINITY;
      for (int s = std::max(0, s0 - reach); s <= std::min(kMost, s0 + reach); ++s)
        for (int m = std::max(0, m0 - reach); m <= std::min(kMost, m0 + reach); ++m)
          if (const float e = affine_error(p, most_, t.d * float(s), t.dmin * float(m)); e < least)
            least = e, t.scale[j] = uint8_t(s), t.min[j] = uint8_t(m);
      const float step = t.d * float(t.scale[j]);
      t.sums[j] = affine_sums(p, most_, step > 0 ? 1 / step : 0, t.dmin * float(t.min[j]));
      sum += least;
    }
    return sum;
  }

  // d and dmin for the integers that there are: x ≈ d·a + dmin·b with a = scale·code, b = -min.
  void refit(Try& t) const {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int j = 0; j < kParts; ++j) {
      const double s = t.scale[j], b = -double(t.min[j]);
      aa += s * s * t.sums[j].qq, ab += s * b * t.sums[j].q, bb += b * b * weight_[j];
      ax += s * t.sums[j].qx, bx += b * weighted_[j];
    }
    const double determinant = aa * bb - ab * ab;
    if (!(aa > 0)) return;
    const float before = t.d, before_min = t.dmin;
    if (determinant > 1e-6 * aa * bb) {
      t.d = rounded_half(float((ax * bb - bx * ab) / determinant));
      t.dmin = rounded_half(float((bx * aa - ax * ab) / determinant));
    } else {
      t.d = rounded_half(float((ax - ab * t.dmin) / aa));
    }
    if (!(t.d > 0 && t.dmin >= 0)) t.d = before, t.dmin = before_min;
  }

  const float *x_, *w_;
  const int most_;
  float weight_[kParts], weighted_[kParts];  // Σw, Σwx
};

// The 12 bytes that scale_min_k4() reads.
void put_scale_mins(const uint8_t* scale, const uint8_t* min, uint8_t* to) {
  for (int j = 0; j < 4; ++j) {
    to[j] = uint8_t(scale[j] | (scale[j + 4] >> 4) << 6);
    to[j + 4] = uint8_t(min[j] | (min[j + 4] >> 4) << 6);
    to[j + 8] = uint8_t((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

// Codes without an offset: x ≈ scale · value. value(scaled) is the nearest, code(value) its place.
// -half … half - 1
template <int kHalf>
struct Integers {
  static constexpr float kLowest = -kHalf;
  [[gnu::always_inline]] static Wide value(Wide scaled) {
    return codes_of(scaled + float(kHalf), 2 * kHalf - 1) - float(kHalf);
  }
  [[gnu::always_inline]] static Wide code(Wide scaled) { return value(scaled) + float(kHalf); }
};
struct Nonlinear {
  static constexpr float kLowest = -127;
  [[gnu::always_inline]] static Wide value(Wide scaled) {
    return count(scaled, float(kIq4Values[0]), [](int i) { return float(kIq4Values[i + 1] - kIq4Values[i]); });
  }
  [[gnu::always_inline]] static Wide code(Wide scaled) {
    return count(scaled, 0, [](int) { return 1.f; });
  }
  // first + Σ step(i) over the middles between values that are at most `scaled`
  template <class Fn>
  [[gnu::always_inline]] static Wide count(Wide scaled, float first, Fn&& step) {
    Wide sum = wide(first);
#pragma GCC unroll 15
    for (int i = 0; i < 15; ++i)
      sum += scaled >= wide(float(kIq4Values[i] + kIq4Values[i + 1]) / 2) ? wide(step(i)) : wide(0);
    return sum;
  }
};

template <class L, int N>
float scaled_error(const Part<N>& p, float scale) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  Wide error{};
  p.each([&](const Wide& x, const Wide& w) __attribute__((always_inline)) {
    const Wide e = x - scale * L::value(x * inverse);
    error += w * e * e;
  });
  return total(error);
}
template <class L, int N>
[[gnu::always_inline]] inline Sums scaled_sums(const Part<N>& p, float inverse) {
  Wide qq{}, qx{};
  p.each([&](const Wide& x, const Wide& w) __attribute__((always_inline)) {
    const Wide q = L::value(x * inverse), wq = w * q;
    qq += wq * q, qx += wq * x;
  });
  return {0, total(qq), total(qx)};
}

template <class L, int N>
float fit_scale(const Part<N>& p) {
  Wide low{}, high{};
  p.each([&](const Wide& x, const Wide&)
             __attribute__((always_inline)) { low = smaller(low, x), high = larger(high, x); });
  float lowest = 0, highest = 0;
  for (int i = 0; i < kWide; ++i) lowest = std::min(lowest, low[i]), highest = std::max(highest, high[i]);
  const float extreme = -lowest > highest ? lowest : highest;
  if (extreme == 0) return 0;
  float best = extreme / L::kLowest, most_explained = -1;
  const auto refit = [&](float inverse) {
    const Sums s = scaled_sums<L>(p, inverse);
    if (s.qq > 0 && s.qx * s.qx > most_explained * s.qq) most_explained = s.qx * s.qx / s.qq, best = s.qx / s.qq;
  };
  // Steps of the lowest level's size: wide for few levels.
  const float reach = std::max(0.15f, 0.9f / -L::kLowest);
  for (int i = -10; i <= 10; ++i) {
    const float inverse = L::kLowest * (1 + reach * float(i) / 10) / extreme;
    refit(inverse), refit(-inverse);
  }
  for (int i = 0; i < 3 && best != 0; ++i) refit(1 / best);
  return best;
}

// q6_k, q3_k and iq4_xs: kParts parts, each with a signed integer kLowest … -kLowest - 1 for its scale.
template <class L, int kParts, int kLowest>
struct ScaledBlock {
  static constexpr int n = 256 / kParts;
  using P = Part<n / kWide>;
  struct Try {
    float d = 0;  // as f16 holds it
    int scale[kParts] = {};
    Sums sums[kParts];
  };
  Try best;
  uint8_t code[256];

  ScaledBlock(const float* x, const float* w) : x_(x), w_(w) {
    float fit[kParts], extreme = 0;
    for (int j = 0; j < kParts; ++j) {
      fit[j] = fit_scale<L>(P(x + n * j, w + n * j));
      if (std::fabs(fit[j]) > std::fabs(extreme)) extreme = fit[j];
    }
    float least = INFINITY;
    for (const float lowest : {float(kLowest), 0.875f * kLowest, 0.94f * kLowest}) {
      Try t;
      t.d = rounded_half(extreme / lowest);
      for (int j = 0; j < kParts; ++j)
        t.scale[j] = t.d != 0 ? std::clamp(int(std::lround(fit[j] / t.d)), kLowest, -kLowest - 1) : 0;
      float error = improve(t);
      for (int round = 0; round < 3; ++round) {
        Try other = t;
        refit(other);
        const float e = improve(other);
        if (!(e < error)) break;
        t = other, error = e;
      }
      if (error < least || least == INFINITY) best = t, least = error;
    }
    for (int e = 0; e < 256; e += kWide) {
      const float step = best.d * float(best.scale[e / n]);
      Wide v;
      std::memcpy(&v, x + e, sizeof v);
      put_codes(L::code(v * (step != 0 ? 1 / step : 0)), code + e);
    }
  }

 private:
  float improve(Try& t) const {
    float sum = 0;
    for (int j = 0; j < kParts; ++j) {
      const P p(x_ + n * j, w_ + n * j);
      const int s0 = t.scale[j];
      float least = INFINITY;
      for (int s = std::max(kLowest, s0 - 1); s <= std::min(-kLowest - 1, s0 + 1); ++s)
        if (const float e = scaled_error<L>(p, t.d * float(s)); e < least) least = e, t.scale[j] = s;
      const float step = t.d * float(t.scale[j]);
      t.sums[j] = scaled_sums<L>(p, step != 0 ? 1 / step : 0);
      sum += least;
    }
    return sum;
  }

  void refit(Try& t) const {
    double aa = 0, ax = 0;
    for (int j = 0; j < kParts; ++j) {
      const double s = t.scale[j];
      aa += s * s * t.sums[j].qq, ax += s * t.sums[j].qx;
    }
    if (!(aa > 0)) return;
    const float before = t.d;
    t.d = rounded_half(float(ax / aa));
    if (t.d == 0) t.d = before;
  }

  const float *x_, *w_;
};

// fn(weights): ones where no importance is given or all of it is 0.
template <class Fn>
void with_weights(const float* importance, int n, Fn&& fn) {
  float total = 0;
  for (int i = 0; importance && i < n; ++i) total += importance[i];
  if (total > 0) return fn(importance);
  float ones[256];
  std::fill(ones, ones + n, 1.f);
  fn(ones);
}

void put_crumbs(const uint8_t* code, uint8_t* to) {
  std::memset(to, 0, 64);
  for (int e = 0; e < 256; ++e) to[32 * (e / 128) + e % 32] |= uint8_t((code[e] & 3) << 2 * (e % 128 / 32));
}

void encode_q2_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const AffineBlock<16, 15> b(x, w, 3);
    for (int j = 0; j < 16; ++j) out[j] = uint8_t(b.best.scale[j] | b.best.min[j] << 4);
    put_crumbs(b.code, out + 16);
    put_half(out + 80, b.best.d), put_half(out + 82, b.best.dmin);
  });
}

void encode_q4_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const AffineBlock<8, 63> b(x, w, 15);
    put_half(out, b.best.d), put_half(out + 2, b.best.dmin);
    put_scale_mins(b.best.scale, b.best.min, out + 4);
    for (int e = 0; e < 256; e += 64)
      for (int i = 0; i < 32; ++i) out[16 + e / 2 + i] = uint8_t(b.code[e + i] | b.code[e + 32 + i] << 4);
  });
}

void encode_q5_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const AffineBlock<8, 63> b(x, w, 31);
    put_half(out, b.best.d), put_half(out + 2, b.best.dmin);
    put_scale_mins(b.best.scale, b.best.min, out + 4);
    std::memset(out + 16, 0, 32);
    for (int e = 0; e < 256; ++e) out[16 + e % 32] |= uint8_t((b.code[e] >> 4) << e / 32);
    for (int e = 0; e < 256; e += 64)
      for (int i = 0; i < 32; ++i) out[48 + e / 2 + i] = uint8_t((b.code[e + i] & 15) | (b.code[e + 32 + i] & 15) << 4);
  });
}

void encode_q3_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const ScaledBlock<Integers<4>, 16, -32> b(x, w);
    std::memset(out, 0, 32);
    for (int e = 0; e < 256; ++e) out[e % 32] |= uint8_t((b.code[e] >> 2) << e / 32);
    put_crumbs(b.code, out + 32);
    std::memset(out + 96, 0, 12);
    for (int i = 0; i < 16; ++i) {
      const int s = b.best.scale[i] + 32;
      out[96 + i % 8] |= uint8_t(i < 8 ? s & 15 : (s & 15) << 4);
      out[104 + i % 4] |= uint8_t((s >> 4) << 2 * (i / 4));
    }
    put_half(out + 108, b.best.d);
  });
}

void encode_q6_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const ScaledBlock<Integers<32>, 16, -128> b(x, w);
    std::memset(out, 0, 192);
    for (int e = 0; e < 256; ++e) {
      const int part = e / 128, k = e % 128 / 32, l = e % 32;
      out[64 * part + 32 * (k & 1) + l] |= uint8_t((b.code[e] & 15) << 4 * (k >> 1));
      out[128 + 32 * part + l] |= uint8_t((b.code[e] >> 4) << 2 * k);
    }
    for (int i = 0; i < 16; ++i) out[192 + i] = uint8_t(int8_t(b.best.scale[i]));
    put_half(out + 208, b.best.d);
  });
}

void encode_iq4_xs(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const ScaledBlock<Nonlinear, 8, -32> b(x, w);
    std::memset(out, 0, 8);
    put_half(out, b.best.d);
    for (int g = 0; g < 8; ++g) {
      const int s = b.best.scale[g] + 32;
      out[2 + g / 4] |= uint8_t((s >> 4) << 2 * (g % 4));
      out[4 + g / 2] |= uint8_t((s & 15) << 4 * (g & 1));
      for (int i = 0; i < 16; ++i) out[8 + 16 * g + i] = uint8_t(b.code[32 * g + i] | b.code[32 * g + 16 + i] << 4);
    }
  });
}

void encode_iq4_nl(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 32, [&](const float* w) {
    const Part<2> p(x, w);
    const float d = rounded_half(fit_scale<Nonlinear>(p)), inverse = d != 0 ? 1 / d : 0;
    put_half(out, d);
    uint8_t code[32];
    put_codes(Nonlinear::code(p.x[0] * inverse), code), put_codes(Nonlinear::code(p.x[1] * inverse), code + 16);
    for (int i = 0; i < 16; ++i) out[2 + i] = uint8_t(code[i] | code[i + 16] << 4);
  });
}

}  // namespace

void search_block(DType type, const float* x, const float* importance, uint8_t* out) {
  switch (type) {
    case DType::q2_k:
      return encode_q2_k(x, importance, out);
    case DType::q3_k:
      return encode_q3_k(x, importance, out);
    case DType::q4_k:
      return encode_q4_k(x, importance, out);
    case DType::q5_k:
      return encode_q5_k(x, importance, out);
    case DType::q6_k:
      return encode_q6_k(x, importance, out);
    case DType::iq4_nl:
      return encode_iq4_nl(x, importance, out);
    default:
      return encode_iq4_xs(x, importance, out);
  }
}

}  // namespace statespace::STATESPACE_ISA
