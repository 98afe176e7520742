// Blocks whose scales are searched: each part of a block gets the best of many least-squares fits, the parts' scales
// are rounded to the integers that the block holds, and these are improved with what they really decode to.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/blocks.h"
#include "core/halves.h"
#include "core/quantise.h"

namespace statespace {
namespace {

// n ≤ 32 values with the weights of their squared errors.
struct Part {
  const float* x;
  const float* w;
  int n;
};

void put_half(uint8_t* to, float x) {
  const uint16_t bits = f32_to_f16(x);
  std::memcpy(to, &bits, 2);
}
float rounded_half(float x) { return f16_to_f32(f32_to_f16(x)); }

// The nearest of 0 … most.
int code_of(float scaled, int most) { return int(std::min(std::max(scaled, 0.f), float(most)) + 0.5f); }

// x ≈ scale · q - min with q in 0 … most and min ≥ 0.
struct Affine {
  float scale = 0, min = 0;
};

float affine_error(const Part& p, int most, float scale, float min) {
  const float inverse = scale > 0 ? 1 / scale : 0;
  float error = 0;
  for (int i = 0; i < p.n; ++i) {
    const float e = p.x[i] + min - scale * float(code_of((p.x[i] + min) * inverse, most));
    error += p.w[i] * e * e;
  }
  return error;
}

Affine fit_affine(const Part& p, int most) {
  float low = 0, high = p.x[0], sw = 0, swx = 0;
  for (int i = 0; i < p.n; ++i) {
    low = std::min(low, p.x[i]), high = std::max(high, p.x[i]);
    sw += p.w[i], swx += p.w[i] * p.x[i];
  }
  if (!(high > low) || !(sw > 0)) return {0, -low};
  Affine best;
  float most_explained = 0;
  // The codes that (inverse, min) give, then the best scale and min for those codes.
  const auto refit = [&](float inverse, float min) {
    float sq = 0, sqq = 0, sqx = 0;
    for (int i = 0; i < p.n; ++i) {
      const float q = float(code_of((p.x[i] + min) * inverse, most)), wq = p.w[i] * q;
      sq += wq, sqq += wq * q, sqx += wq * p.x[i];
    }
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

// q4_k, q5_k and q2_k: kParts parts of n values, integers up to kMost for scales and mins, codes up to `most`.
template <int kParts, int kMost>
struct AffineBlock {
  float d = 0, dmin = 0;  // as f16 holds them
  uint8_t scale[kParts] = {}, min[kParts] = {}, code[256] = {};

  AffineBlock(const float* x, const float* w, int most) {
    constexpr int n = 256 / kParts;
    Affine fit[kParts];
    float largest_scale = 0, largest_min = 0;
    for (int j = 0; j < kParts; ++j) {
      fit[j] = fit_affine({x + n * j, w + n * j, n}, most);
      largest_scale = std::max(largest_scale, fit[j].scale), largest_min = std::max(largest_min, fit[j].min);
    }
    // The largest scale and min need not get the largest integers: a few starts, the best of which stays.
    float least = INFINITY;
    AffineBlock best = *this;
    for (const auto& [under, under_min] : {std::pair(0, 0), std::pair(kMost / 8, 0), std::pair(0, kMost / 8)}) {
      d = rounded_half(largest_scale / float(kMost - under)),
      dmin = rounded_half(largest_min / float(kMost - under_min));
      for (int j = 0; j < kParts; ++j) {
        scale[j] = uint8_t(d > 0 ? code_of(fit[j].scale / d, kMost) : 0);
        min[j] = uint8_t(dmin > 0 ? code_of(fit[j].min / dmin, kMost) : 0);
      }
      float error = improve(x, w, most);
      for (int round = 0; round < 3; ++round) {
        AffineBlock other = *this;
        other.refit(x, w);
        const float e = other.improve(x, w, most);
        if (!(e < error)) break;
        *this = other, error = e;
      }
      if (error < least) best = *this, least = error;
    }
    *this = best;
  }

  // Each part's scale and min, and the codes, with the d and dmin that there are. Returns the error.
  float improve(const float* x, const float* w, int most) {
    constexpr int n = 256 / kParts;
    float total = 0;
    for (int j = 0; j < kParts; ++j) {
      const Part p{x + n * j, w + n * j, n};
      const int s0 = scale[j], m0 = min[j], reach = most == 3 ? 2 : 1;
      float least = INFINITY;
      for (int s = std::max(0, s0 - reach); s <= std::min(kMost, s0 + reach); ++s)
        for (int m = std::max(0, m0 - reach); m <= std::min(kMost, m0 + reach); ++m)
          if (const float e = affine_error(p, most, d * float(s), dmin * float(m)); e < least)
            least = e, scale[j] = uint8_t(s), min[j] = uint8_t(m);
      const float step = d * float(scale[j]), offset = dmin * float(min[j]), inverse = step > 0 ? 1 / step : 0;
      for (int i = 0; i < n; ++i) code[n * j + i] = uint8_t(code_of((p.x[i] + offset) * inverse, most));
      total += least;
    }
    return total;
  }

  // d and dmin for the integers that there are.
  void refit(const float* x, const float* w) {
    constexpr int n = 256 / kParts;
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int e = 0; e < 256; ++e) {
      const double a = double(scale[e / n]) * code[e], b = -double(min[e / n]);
      aa += w[e] * a * a, ab += w[e] * a * b, bb += w[e] * b * b, ax += w[e] * a * x[e], bx += w[e] * b * x[e];
    }
    const double determinant = aa * bb - ab * ab;
    if (!(aa > 0)) return;
    const float before = d, before_min = dmin;
    if (determinant > 1e-9 * aa * bb) {
      d = rounded_half(float((ax * bb - bx * ab) / determinant));
      dmin = rounded_half(float((bx * aa - ax * ab) / determinant));
    } else {
      d = rounded_half(float((ax - ab * dmin) / aa));
    }
    if (!(d > 0 && dmin >= 0)) d = before, dmin = before_min;
  }
};

// The 12 bytes that scale_min_k4() reads.
void put_scale_mins(const uint8_t* scale, const uint8_t* min, uint8_t* to) {
  for (int j = 0; j < 4; ++j) {
    to[j] = uint8_t(scale[j] | (scale[j + 4] >> 4) << 6);
    to[j + 4] = uint8_t(min[j] | (min[j + 4] >> 4) << 6);
    to[j + 8] = uint8_t((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
  }
}

// Codes without an offset: x ≈ scale · value[q]. `values` rise.
template <int kValues>
struct Levels {
  float value[kValues], middle[kValues - 1];
  template <class Fn>
  explicit Levels(Fn&& at) {
    for (int i = 0; i < kValues; ++i) value[i] = float(at(i));
    for (int i = 0; i + 1 < kValues; ++i) middle[i] = (value[i] + value[i + 1]) / 2;
  }
  int code(float scaled) const {
    int low = 0;
    for (int step = kValues / 2; step; step /= 2)
      if (scaled >= middle[low + step - 1]) low += step;
    return low;
  }
};
// -half … half - 1
template <int kHalf>
struct Integers {
  static int code(float scaled) { return code_of(scaled + kHalf, 2 * kHalf - 1); }
  static float at(int code) { return float(code - kHalf); }
  static constexpr float kLowest = -kHalf;
};
struct Nonlinear {
  static const Levels<16>& levels() {
    static const Levels<16> levels([](int i) { return kIq4Values[i]; });
    return levels;
  }
  static int code(float scaled) { return levels().code(scaled); }
  static float at(int code) { return float(kIq4Values[code]); }
  static constexpr float kLowest = -127;
};

template <class L>
float scaled_error(const Part& p, float scale) {
  const float inverse = scale != 0 ? 1 / scale : 0;
  float error = 0;
  for (int i = 0; i < p.n; ++i) {
    const float e = p.x[i] - scale * L::at(L::code(p.x[i] * inverse));
    error += p.w[i] * e * e;
  }
  return error;
}

template <class L>
float fit_scale(const Part& p) {
  float extreme = 0;
  for (int i = 0; i < p.n; ++i)
    if (std::fabs(p.x[i]) > std::fabs(extreme)) extreme = p.x[i];
  if (extreme == 0) return 0;
  float best = extreme / L::kLowest, most_explained = -1;
  const auto refit = [&](float inverse) {
    float sqq = 0, sqx = 0;
    for (int i = 0; i < p.n; ++i) {
      const float q = L::at(L::code(p.x[i] * inverse));
      sqq += p.w[i] * q * q, sqx += p.w[i] * q * p.x[i];
    }
    if (sqq > 0 && sqx * sqx > most_explained * sqq) most_explained = sqx * sqx / sqq, best = sqx / sqq;
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
  float d = 0;  // as f16 holds it
  int scale[kParts] = {};
  uint8_t code[256] = {};

  ScaledBlock(const float* x, const float* w) {
    constexpr int n = 256 / kParts;
    float fit[kParts], extreme = 0;
    for (int j = 0; j < kParts; ++j) {
      fit[j] = fit_scale<L>({x + n * j, w + n * j, n});
      if (std::fabs(fit[j]) > std::fabs(extreme)) extreme = fit[j];
    }
    ScaledBlock best = *this;
    float least = INFINITY;
    for (const float lowest : {float(kLowest), 0.875f * kLowest, 0.94f * kLowest}) {
      d = rounded_half(extreme / lowest);
      for (int j = 0; j < kParts; ++j)
        scale[j] = d != 0 ? std::clamp(int(std::lround(fit[j] / d)), kLowest, -kLowest - 1) : 0;
      float error = improve(x, w);
      for (int round = 0; round < 3; ++round) {
        ScaledBlock other = *this;
        other.refit(x, w);
        const float e = other.improve(x, w);
        if (!(e < error)) break;
        *this = other, error = e;
      }
      if (error < least) best = *this, least = error;
    }
    *this = best;
  }

  float improve(const float* x, const float* w) {
    constexpr int n = 256 / kParts;
    float total = 0;
    for (int j = 0; j < kParts; ++j) {
      const Part p{x + n * j, w + n * j, n};
      const int s0 = scale[j];
      float least = INFINITY;
      for (int s = std::max(kLowest, s0 - 1); s <= std::min(-kLowest - 1, s0 + 1); ++s)
        if (const float e = scaled_error<L>(p, d * float(s)); e < least) least = e, scale[j] = s;
      const float step = d * float(scale[j]), inverse = step != 0 ? 1 / step : 0;
      for (int i = 0; i < n; ++i) code[n * j + i] = uint8_t(L::code(p.x[i] * inverse));
      total += least;
    }
    return total;
  }

  void refit(const float* x, const float* w) {
    constexpr int n = 256 / kParts;
    double aa = 0, ax = 0;
    for (int e = 0; e < 256; ++e) {
      const double a = double(scale[e / n]) * double(L::at(code[e]));
      aa += w[e] * a * a, ax += w[e] * a * x[e];
    }
    if (!(aa > 0)) return;
    const float before = d;
    d = rounded_half(float(ax / aa));
    if (d == 0) d = before;
  }
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

}  // namespace

void encode_q2_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const AffineBlock<16, 15> b(x, w, 3);
    for (int j = 0; j < 16; ++j) out[j] = uint8_t(b.scale[j] | b.min[j] << 4);
    put_crumbs(b.code, out + 16);
    put_half(out + 80, b.d), put_half(out + 82, b.dmin);
  });
}

void encode_q4_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const AffineBlock<8, 63> b(x, w, 15);
    put_half(out, b.d), put_half(out + 2, b.dmin);
    put_scale_mins(b.scale, b.min, out + 4);
    for (int e = 0; e < 256; e += 64)
      for (int i = 0; i < 32; ++i) out[16 + e / 2 + i] = uint8_t(b.code[e + i] | b.code[e + 32 + i] << 4);
  });
}

void encode_q5_k(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const AffineBlock<8, 63> b(x, w, 31);
    put_half(out, b.d), put_half(out + 2, b.dmin);
    put_scale_mins(b.scale, b.min, out + 4);
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
      const int s = b.scale[i] + 32;
      out[96 + i % 8] |= uint8_t(i < 8 ? s & 15 : (s & 15) << 4);
      out[104 + i % 4] |= uint8_t((s >> 4) << 2 * (i / 4));
    }
    put_half(out + 108, b.d);
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
    for (int i = 0; i < 16; ++i) out[192 + i] = uint8_t(int8_t(b.scale[i]));
    put_half(out + 208, b.d);
  });
}

void encode_iq4_xs(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 256, [&](const float* w) {
    const ScaledBlock<Nonlinear, 8, -32> b(x, w);
    std::memset(out, 0, 8);
    put_half(out, b.d);
    for (int g = 0; g < 8; ++g) {
      const int s = b.scale[g] + 32;
      out[2 + g / 4] |= uint8_t((s >> 4) << 2 * (g % 4));
      out[4 + g / 2] |= uint8_t((s & 15) << 4 * (g & 1));
      for (int i = 0; i < 16; ++i) out[8 + 16 * g + i] = uint8_t(b.code[32 * g + i] | b.code[32 * g + 16 + i] << 4);
    }
  });
}

void encode_iq4_nl(const float* x, const float* importance, uint8_t* out) {
  with_weights(importance, 32, [&](const float* w) {
    const Part p{x, w, 32};
    const float fit = fit_scale<Nonlinear>(p), d = rounded_half(fit), inverse = d != 0 ? 1 / d : 0;
    put_half(out, d);
    for (int i = 0; i < 16; ++i)
      out[2 + i] = uint8_t(Nonlinear::code(x[i] * inverse) | Nonlinear::code(x[i + 16] * inverse) << 4);
  });
}

}  // namespace statespace
