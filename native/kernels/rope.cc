#include "ops/rope.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Angles that are taken at once: a loop of so many, whose results lie nowhere else (__restrict), is made of vectors.
constexpr int kAngles = 16;

// cos and sin of f32 angles, correct to f32 rounding. An angle near 131,071 has an f32 ulp of 0.008, so what matters
// is that this very float is reduced exactly: in f64, pi/2 in three parts of which the products with n are exact. The
// sum with 1.5 · 2^52 rounds to a whole n, whose last bits are the sum's.
inline void cos_sin(const float* angles, float* __restrict cosine, float* __restrict sine) {
  uint32_t largest = 0;  // as bits, of which those of infinities and NaNs are the greatest
  for (int i = 0; i < kAngles; ++i) largest = std::max(largest, std::bit_cast<uint32_t>(angles[i]) & 0x7fffffff);
  if (largest >= std::bit_cast<uint32_t>(0x1p30f)) {
    for (int i = 0; i < kAngles; ++i)
      cosine[i] = float(::cos(double(angles[i]))), sine[i] = float(::sin(double(angles[i])));
    return;
  }
  for (int i = 0; i < kAngles; ++i) {
    const double a = angles[i], shifted = a * 0.63661977236758134308 + 0x1.8p52, n = shifted - 0x1.8p52;
    const double r = ((a - n * 0x1.921fbp+0) - n * 0x1.5110bp-22) - n * 0x1.18469898cc517p-44;
    const double z = r * r;
    const double s =
        r * (1 + z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 +
                                                       z * (1.0 / 362880 + z * (-1.0 / 39916800 + z / 6227020800))))));
    const double c =
        1 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z / 479001600)))));
    const uint64_t quarter = std::bit_cast<uint64_t>(shifted), odd = 0 - (quarter & 1);
    const uint64_t sines = std::bit_cast<uint64_t>(s), cosines = std::bit_cast<uint64_t>(c);
    const uint64_t x = (sines & odd) | (cosines & ~odd), y = (cosines & odd) | (sines & ~odd);
    cosine[i] = float(std::bit_cast<double>(x ^ ((quarter + 1) & 2) << 62));
    sine[i] = float(std::bit_cast<double>(y ^ (quarter & 2) << 62));
  }
}

void rotate_halves(const float* x, const float* cosine, const float* sine, int64_t half, float* y) {
  for (int64_t j = 0; j < half; j += kLanes) {
    const int m = lanes_of(half - j);
    const F a = load(x + j, m), b = load(x + half + j, m), c = load(cosine + j, m), s = load(sine + j, m);
    store(y + j, fnma(b, s, a * c), m);
    store(y + half + j, fma(a, s, b * c), m);
  }
}

void rotate_pairs(const float* x, const float* cosine, const float* sine, int64_t half, float* y) {
  for (int64_t j = 0; j < half; ++j) {
    const float a = x[2 * j], b = x[2 * j + 1];
    y[2 * j] = a * cosine[j] - b * sine[j];
    y[2 * j + 1] = a * sine[j] + b * cosine[j];
  }
}

// y = x rotated by `direction` times its angle.
template <class Op>
void rotate(const Op& op, const Tensor& from, const Tensor& to, float direction, Context& cx) {
  const int64_t nheads = from[1], headdim = from[2], half = op.inv_freq[0];
  const float* inv_freq = op.inv_freq.f32();
  for_row_blocks(cx, from[0], nheads * headdim, [&](int64_t begin, int64_t end, int worker) {
    const int64_t width = ceil_div(half, kAngles) * kAngles;
    float* cosine = cx.local<float>(worker, 2 * width);
    float* sine = cosine + width;
    for (int64_t t = begin; t < end; ++t) {
      const float position = float(op.positions ? op.positions.i32()[t] : t);
      for (int64_t j = 0; j < half; j += kAngles) {
        float angles[kAngles] = {};
        for (int64_t i = 0; i < std::min<int64_t>(kAngles, half - j); ++i) angles[i] = position * inv_freq[j + i];
        cos_sin(angles, cosine + j, sine + j);
        for (int64_t i = j; i < j + kAngles; i += kLanes) {
          store(cosine + i, set(op.mscale) * load(cosine + i));
          store(sine + i, set(direction * op.mscale) * load(sine + i));
        }
      }
      for (int64_t h = 0; h < nheads; ++h) {
        const float* x = from.row(t) + h * headdim;
        float* y = to.row(t) + h * headdim;
        (op.interleaved ? rotate_pairs : rotate_halves)(x, cosine, sine, half, y);
        if (y != x) std::memcpy(y + 2 * half, x + 2 * half, (headdim - 2 * half) * sizeof(float));
      }
    }
  });
}

}  // namespace

template <>
void run(const Rope& op, Context& cx) {
  rotate(op, op.x, op.y, 1, cx);
}

template <>
void run(const RopeBackward& op, Context& cx) {
  if (op.dx) rotate(op, op.dy, op.dx, -1, cx);
}

}  // namespace statespace::STATESPACE_ISA
