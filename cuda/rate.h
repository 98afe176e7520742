#pragma once
#include <cfloat>

#include "device.h"

namespace statespace::cuda {

// A rate of decay that a step of 0 can be multiplied with, as native/kernels/rate.h has it for the CPU.
__device__ inline float finite_rate(float A) { return A < -FLT_MAX ? -FLT_MAX : A; }

}  // namespace statespace::cuda
