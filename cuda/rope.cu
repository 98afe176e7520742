#include "ops/rope.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

struct RopeArgs {
  Rows<const float> x;
  Rows<float> y;
  global<const int32_t> positions;
  global<const float> inv_freq;
  int tokens, nheads, headdim, half, columns, head_blocks;
  bool interleaved;
  float mscale, direction;  // -1: the rotation backwards
};

constexpr int kThreads = 256;
constexpr int kHeads = 4;  // rotated by a thread with one cosine and sine

// cos and sin of an f32 angle, correct to f32 rounding: at 131,071 its ulp is 0.008, so this very float is reduced, in
// f64, with pi/2 in three parts of which the products with n are exact.
__device__ void cos_sin(float angle, float& cosine, float& sine) {
  const double a = angle;
  if (!(fabs(a) < 0x1p31)) {
    cosine = float(cos(a)), sine = float(sin(a));
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

// Column j < half rotates pair j of some heads; the columns behind copy what is not rotated.
__global__ void __launch_bounds__(kThreads) rope(RopeArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(a.tokens) * a.head_blocks * a.columns) return;
  const int j = int(i % a.columns), first = int(i / a.columns % a.head_blocks) * kHeads;
  const int t = int(i / a.columns / a.head_blocks), end = smaller(first + kHeads, a.nheads);
  const global<const float> x = a.x[t];
  const global<float> y = a.y[t];
  if (j >= a.half) {
    for (int h = first; h < end; ++h) y[h * a.headdim + a.half + j] = x[h * a.headdim + a.half + j];
    return;
  }
  float s, c;
  cos_sin(float(a.positions ? a.positions[t] : t) * a.inv_freq[j], c, s);
  s *= a.mscale * a.direction, c *= a.mscale;
  const int low = a.interleaved ? 2 * j : j, high = a.interleaved ? low + 1 : low + a.half;
  for (int h = first; h < end; ++h) {
    const float p = x[h * a.headdim + low], q = x[h * a.headdim + high];
    y[h * a.headdim + low] = p * c - q * s;
    y[h * a.headdim + high] = p * s + q * c;
  }
}

void rotate(const Rope& op, float direction) {
  const int64_t half = op.inv_freq[0], rest = op.x.data == op.y.data ? 0 : op.x[2] - 2 * half;
  const RopeArgs a{op.x,
                   op.y,
                   global_data<const int32_t>(op.positions),
                   global_data<const float>(op.inv_freq),
                   int(op.x[0]),
                   int(op.x[1]),
                   int(op.x[2]),
                   int(half),
                   int(half + rest),
                   int(ceil_div(op.x[1], kHeads)),
                   op.interleaved,
                   op.mscale,
                   direction};
  launch(rope, {ceil_div(int64_t(a.tokens) * a.head_blocks * a.columns, kThreads)}, kThreads, a);
}

}  // namespace

template <>
void run(const Rope& op) {
  rotate(op, 1);
}

template <>
void run(const RopeBackward& op) {
  if (!op.dx) return;
  Rope back;
  back.x = op.dy, back.positions = op.positions, back.inv_freq = op.inv_freq, back.y = op.dx;
  back.interleaved = op.interleaved, back.mscale = op.mscale;
  rotate(back, -1);
}

}  // namespace statespace::cuda
