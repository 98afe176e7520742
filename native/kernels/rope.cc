#include "ops/rope.h"

#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

// cos and sin of an f32 angle, correct to f32 rounding. An angle near 131,071 has an f32 ulp of 0.008, so what matters
// is that this very float is reduced exactly: in f64, pi/2 in three parts of which the products with n are exact.
inline void cos_sin(float angle, float& cosine, float& sine) {
  const double a = angle;
  if (!(a > -0x1p30 && a < 0x1p30)) {
    cosine = float(::cos(a)), sine = float(::sin(a));
    return;
  }
  const int64_t n = int64_t(a * 0.63661977236758134308 + (a < 0 ? -0.5 : 0.5));
  const double r = ((a - double(n) * 0x1.921fbp+0) - double(n) * 0x1.5110bp-22) - double(n) * 0x1.18469898cc517p-44;
  const double z = r * r;
  const double s =
      r * (1 + z * (-1.0 / 6 +
                    z * (1.0 / 120 + z * (-1.0 / 5040 + z * (1.0 / 362880 + z * (-1.0 / 39916800 + z / 6227020800))))));
  const double c =
      1 + z * (-0.5 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 + z * (-1.0 / 3628800 + z / 479001600)))));
  const double x = n & 1 ? s : c, y = n & 1 ? c : s;
  cosine = float((n + 1) & 2 ? -x : x);
  sine = float(n & 2 ? -y : y);
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
    float* cosine = cx.local<float>(worker, 2 * half);
    float* sine = cosine + half;
    for (int64_t t = begin; t < end; ++t) {
      const float position = float(op.positions ? op.positions.i32()[t] : t);
      for (int64_t j = 0; j < half; ++j) {
        cos_sin(position * inv_freq[j], cosine[j], sine[j]);
        cosine[j] *= op.mscale, sine[j] *= direction * op.mscale;
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
