#pragma once
// Complex FFTs of up to kPoints points in a block's shared memory, radix 4. The forward transform leaves its output in
// the order of its recursion and the inverse takes it so: a convolution needs no other.
#include "views.h"

namespace statespace::cuda {

constexpr int kPoints = 4096, kFftThreads = 256;

struct alignas(8) Point {
  float re, im;
};
__device__ inline Point operator+(Point a, Point b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Point operator-(Point a, Point b) { return {a.re - b.re, a.im - b.im}; }
__device__ inline Point operator*(Point a, Point b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
__device__ inline Point operator*(float a, Point b) { return {a * b.re, a * b.im}; }
__device__ inline Point conjugate(Point a) { return {a.re, -a.im}; }
__device__ inline Point times_i(Point a) { return {-a.im, a.re}; }

// A padding point in 16 keeps strides of powers of two out of one bank.
struct FftShared {
  Point x[kPoints + kPoints / 16];
  __device__ Point& operator[](int i) { return x[i + i / 16]; }
};

// e^{iπk/(2·kPoints)}, k < kPoints: a quarter of the circle.
using Roots = global<const Point>;

// w^j of m points, j < m/4, w = e^{-2πi/m}
__device__ inline Point root(Roots roots, int j, int m) { return conjugate(roots[j * (4 * kPoints / m)]); }

__device__ inline void fft_pairs(FftShared& x, int m) {
  for (int i = int(threadIdx.x) * 2; i < m; i += 2 * kFftThreads) {
    const Point a = x[i], b = x[i + 1];
    x[i] = a + b, x[i + 1] = a - b;
  }
  barrier();
}

// All threads of the block; x is there, and the result when it returns.
__device__ inline void fft(FftShared& x, int m, Roots roots) {
  barrier();
  int size = m;
  for (; size >= 4; size /= 4) {
    const int q = size / 4;
    for (int b = int(threadIdx.x); b < m / 4; b += kFftThreads) {
      const int j = b % q, i = b / q * size + j;
      const Point w = root(roots, j, size), w2 = w * w;
      const Point a = x[i], b1 = x[i + q], c = x[i + 2 * q], d = x[i + 3 * q];
      const Point even = a + c, odd = a - c, sum = b1 + d, turned = times_i(b1 - d);
      x[i] = even + sum;
      x[i + q] = (odd - turned) * w;
      x[i + 2 * q] = (even - sum) * w2;
      x[i + 3 * q] = (odd + turned) * (w2 * w);
    }
    barrier();
  }
  if (size == 2) fft_pairs(x, m);
}

// Not divided by m.
__device__ inline void inverse_fft(FftShared& x, int m, Roots roots) {
  barrier();
  int size = m;
  while (size >= 4) size /= 4;
  if (size == 2) fft_pairs(x, m);
  for (size *= 4; size <= m; size *= 4) {
    const int q = size / 4;
    for (int b = int(threadIdx.x); b < m / 4; b += kFftThreads) {
      const int j = b % q, i = b / q * size + j;
      const Point w = conjugate(root(roots, j, size)), w2 = w * w;
      const Point a = x[i], b1 = x[i + q] * w, c = x[i + 2 * q] * w2, d = x[i + 3 * q] * (w2 * w);
      const Point even = a + c, odd = a - c, sum = b1 + d, turned = times_i(b1 - d);
      x[i] = even + sum;
      x[i + q] = odd + turned;
      x[i + 2 * q] = even - sum;
      x[i + 3 * q] = odd - turned;
    }
    barrier();
  }
}

}  // namespace statespace::cuda
