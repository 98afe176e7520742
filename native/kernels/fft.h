#pragma once
// Complex FFTs of 2^n points, one per lane: kLanes channels side by side. An array is (points, 2, kLanes), real parts
// before imaginary ones. The forward transform leaves its output in the order of its recursion and the inverse takes it
// so: a convolution needs no other, and no pass reorders anything. Radix 4, depth first, so that all but the first
// passes over a long array stay in the cache.
#include "core/context.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

constexpr int64_t kPoint = 2 * kLanes;  // floats of one point

struct Complex {
  F re, im;
};
inline Complex load_point(const float* p) { return {load(p), load(p + kLanes)}; }
inline void store_point(float* p, Complex x) { store(p, x.re), store(p + kLanes, x.im); }
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator-(Complex a, Complex b) { return {a.re - b.re, a.im - b.im}; }
inline Complex operator*(Complex a, Complex b) {
  return {fma(a.re, b.re, zero() - a.im * b.im), fma(a.re, b.im, a.im * b.re)};
}
// a·w and a·conj(w) for w = (w[0], w[1]) in all lanes.
inline Complex times(Complex a, const float* w) {
  const F c = set(w[0]), s = set(w[1]);
  return {fnma(a.im, s, a.re * c), fma(a.im, c, a.re * s)};
}
inline Complex times_conjugate(Complex a, const float* w) {
  const F c = set(w[0]), s = set(w[1]);
  return {fma(a.im, s, a.re * c), fnma(a.re, s, a.im * c)};
}
inline Complex times_i(Complex a) { return {zero() - a.im, a.re}; }

// The powers of unity for transforms of up to `size` points.
struct FftTables {
  // Floats that the tables of this size take.
  static int64_t floats(int64_t size) { return 2 * size + 6 * (size < 4 ? 0 : size / 2 - 1); }
  FftTables(float* memory, int64_t size) : size(size), quarter(memory), powers(memory + 2 * size) {}

  // Fills entries [begin, end) of `quarter`, in f64; then, all of those being there, of the powers for blocks of m
  // points.
  void fill_quarter(int64_t begin, int64_t end) const;
  void fill_powers(int64_t m, int64_t begin, int64_t end) const;

  // e^{iπk/(2·size)}, k < size: a quarter of the circle.
  const float* root(int64_t k) const { return quarter + 2 * k; }
  // ω^t for a convolution of m points, ω = e^{iπ/(2m)}.
  const float* twist(int64_t t, int64_t m) const { return root(t * (size / m)); }
  // w^j, w^2j, w^3j with w = e^{-2πi/m}, for j < m/4: six floats each.
  const float* block(int64_t m) const { return powers + 6 * (m / 4 - 1); }

  int64_t size;
  float *quarter, *powers;
};

// Fills all tables, on all threads.
void fill_tables(const FftTables& tables, Context& cx);

// The points of a convolution of this length: a power of two.
inline int64_t points(int64_t length) {
  int64_t m = 1;
  while (m < length) m *= 2;
  return m;
}

// Butterflies [begin, end) of the first pass over m points, m ≥ 4; and of the last pass of the inverse.
void fft_pass(const FftTables& tables, float* x, int64_t m, int64_t begin, int64_t end);
void inverse_fft_pass(const FftTables& tables, float* x, int64_t m, int64_t begin, int64_t end);

// Whole transforms of m ≤ tables.size points, in place; the inverse is not divided by m.
void fft(const FftTables& tables, float* x, int64_t m);
void inverse_fft(const FftTables& tables, float* x, int64_t m);

}  // namespace statespace::STATESPACE_ISA
