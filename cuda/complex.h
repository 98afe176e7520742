#pragma once
// Complex numbers of a recurrence.
#include "device.h"

namespace statespace::cuda {

struct alignas(8) Complex {
  float re, im;
};
__device__ inline Complex operator*(Complex a, Complex b) {
  return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}
__device__ inline Complex operator*(float a, Complex b) { return {a * b.re, a * b.im}; }
__device__ inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }

}  // namespace statespace::cuda
