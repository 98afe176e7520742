#pragma once
// Blocks whose codes count from a minimum: q2_k, q4_k and q5_k.
#include "kernels/quantise_parts.h"

namespace statespace::STATESPACE_ISA::quantise {

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
    // The largest scale and min need not get the largest integers.
    constexpr struct { int scale, min; } kUnder[] = {{0, 0}, {kMost / 8, 0}, {0, kMost / 8}};
    const auto start = [&](const auto& under) {
      Try t;
      t.d = rounded_half(largest_scale / float(kMost - under.scale));
      t.dmin = rounded_half(largest_min / float(kMost - under.min));
      for (int j = 0; j < kParts; ++j) {
        t.scale[j] = uint8_t(t.d > 0 ? code_of(fit[j].scale / t.d, kMost) : 0);
        t.min[j] = uint8_t(t.dmin > 0 ? code_of(fit[j].min / t.dmin, kMost) : 0);
      }
      return t;
    };
    best = best_of(
        kUnder, start, [&](Try& t) { return improve(t); }, [&](Try& t) { refit(t); });
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
inline void put_scale_mins(const uint8_t* scale, const uint8_t* min, uint8_t* to) {
  for (int j = 0; j < 4; ++j) {
    to[j] = uint8_t(scale[j] | (scale[j + 4] >> 4) << 6);
    to[j + 4] = uint8_t(min[j] | (min[j + 4] >> 4) << 6);
    to[j + 8] = uint8_t((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

}  // namespace statespace::STATESPACE_ISA::quantise
