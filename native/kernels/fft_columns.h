#pragma once
// kLanes channels of a convolution by transforms.
//
// The real convolution of L values is the product of polynomials modulo t^m - i, m ≥ L: coefficients from m on become
// imaginary parts, and those from 2m on do not exist. With t = ωu, ω = e^{iπ/(2m)}, it is a cyclic convolution of m
// complex points: half the size of the usual zero-padded transform, and no symmetry of spectra to unpack.
#include "core/tensor.h"
#include "kernels/fft.h"
#include "kernels/reach.h"

namespace statespace::STATESPACE_ISA {

// Sequences up to this length are summed directly: the transforms cost more (measured).
constexpr int64_t kSummedLength = 64;
// Transforms beyond this many points are shared by the threads instead of held by each: memory does not grow with them.
constexpr int64_t kOwnPoints = 1 << 16;

// Columns [first, first + lanes) of rows from `start` on, backwards from `length` where asked; zeros from there on.
struct Signal {
  const Tensor& rows;
  int64_t start, length, first;
  int lanes;
  bool backwards = false;
  F operator()(int64_t t) const {
    if (t >= length) return zero();
    return load(rows.row(start + (backwards ? length - 1 - t : t)) + first, lanes);
  }
};

// The same of a matrix whose rows are the channels: squares of it, turned. Asked for in order, from a multiple of
// kLanes on.
struct Taps {
  const Tensor& channels;
  int64_t length, first;
  int lanes;
  F square[kLanes];
  F operator()(int64_t s) {
    if (s % kLanes == 0) {
      const int n = int(std::clamp<int64_t>(length - s, 0, kLanes));
      for (int l = 0; l < kLanes; ++l) square[l] = l < lanes ? load(channels.row(first + l) + s, n) : zero();
      transpose(square);
    }
    return square[s % kLanes];
  }
};

// to[t] = scale · values(t) ω^t for t in [begin, end). Whether all were finite; without `all`, only those are taken.
template <class Values>
bool load_points(const FftTables& tables, float* to, int64_t m, float scale, int64_t begin, int64_t end, bool all,
                 Values values) {
  F seen = zero();
  for (int64_t t = begin; t < end; ++t) {
    F value = values(t) * set(scale);
    if (!all) value = finite_or_zero(value);
    seen = fma(value, zero(), seen);
    const float* twist = tables.twist(t, m);
    store_point(to + t * kPoint, {value * set(twist[0]), value * set(twist[1])});
  }
  return sum(seen) == 0;
}
// The transform of m values, those that are not finite left out; whether there were none.
template <class Values>
bool transform(const FftTables& tables, float* to, int64_t m, float scale, const Values& values) {
  const bool finite = load_points(tables, to, m, scale, 0, m, true, values);
  if (!finite) load_points(tables, to, m, scale, 0, m, false, values);
  fft(tables, to, m);
  return finite;
}

// to = a ∘ b of points [begin, end).
inline void multiply_points(const float* a, const float* b, float* to, int64_t begin, int64_t end) {
  for (int64_t j = begin * kPoint; j < end * kPoint; j += kPoint)
    store_point(to + j, load_point(a + j) * load_point(b + j));
}

// Re(points[t] ω^-t): value t of a convolution.
inline F value_of(const FftTables& tables, const float* points, int64_t t, int64_t m) {
  return times_conjugate(load_point(points + t * kPoint), tables.twist(t, m)).re;
}

// By lanes, the first place in [0, count) whose value is not finite; without one, a number beyond them.
template <class Values>
F first_not_finite(int64_t count, Values values) {
  F first = set(HUGE_VALF);
  for (int64_t t = 0; t < count; ++t) first = min(first, select(is_finite(values(t)), set(HUGE_VALF), set(float(t))));
  return first;
}

}  // namespace statespace::STATESPACE_ISA
