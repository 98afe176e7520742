#pragma once
// The ops whose CUDA kernel is missing or has not yet passed its tests: one that runs fails and says so. Every other op
// must have its .cu, or the library does not link.
#include "ops/ops.h"

namespace statespace::cuda {

// clang-format off
using Missing = OpList<
    ActivateBackward,
    AddBackward,
    AttentionBackward,
    CrossEntropy,
    CrossEntropyBackward,
    EmbeddingBackward,
    GateBackward,
    LayerNormBackward,
    LinearBackward,
    LinearCrossEntropy,
    NgramEmbedding,
    RmsNormBackward,
    RopeBackward,
    StreamGate>;
// clang-format on

}  // namespace statespace::cuda
