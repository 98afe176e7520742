// Blocks whose scales are searched: each part of a block gets the best of many least-squares fits, the parts' scales
// are rounded to the integers that the block holds, and these are improved with what they really decode to.
#include "backend/cpu_tables.h"
#include "core/blocks.h"
#include "kernels/quantise_affine.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace quantise;

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
    const float kStarts[] = {float(kLowest), 0.875f * kLowest, 0.94f * kLowest};
    const auto start = [&](float lowest) {
      Try t;
      t.d = rounded_half(extreme / lowest);
      for (int j = 0; j < kParts; ++j)
        t.scale[j] = t.d != 0 ? std::clamp(int(std::lround(fit[j] / t.d)), kLowest, -kLowest - 1) : 0;
      return t;
    };
    best = best_of(
        kStarts, start, [&](Try& t) { return improve(t); }, [&](Try& t) { refit(t); });
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
