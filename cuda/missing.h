#pragma once
// The ops that have no CUDA kernel yet: one that runs fails and says so. Every other op must have its .cu, or the
// library does not link.
#include "ops/ops.h"

namespace statespace::cuda {

using Missing = OpList<>;

}  // namespace statespace::cuda
