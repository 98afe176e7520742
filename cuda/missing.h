#pragma once
// The ops whose CUDA kernel is missing or has not yet passed its tests: one that runs fails and says so. Every other op
// must have its .cu, or the library does not link.
#include "ops/ops.h"

namespace statespace::cuda {

// clang-format off
using Missing = OpList<
    AffineBackward,
    DenseConvBackward,
    DenseScanBackward,
    DiscretizeDenseBackward,
    ExpertWeightsBackward,
    FftConvBackward,
    GatedDeltaRuleBackward,
    GlaBackward,
    ImplicitFilterBackward,
    JoinStreamsBackward,
    LerpBackward,
    Mamba3Backward,
    MaxPool,
    MaxPoolBackward,
    MeanPoolBackward,
    MixStreamsBackward,
    MoeBackward,
    NgramEmbeddingBackward,
    RetentionBackward,
    RetentionScaleBackward,
    ReverseBackward,
    RgLruBackward,
    S4ConvBackward,
    S4KernelBackward,
    SinkhornBackward,
    SparseAttentionBackward,
    SquaredError,
    StreamGateBackward,
    TokenShiftBackward,
    TokenShiftMixBackward,
    WholeConv,
    WholeConvBackward,
    Wkv4Backward,
    Wkv6Backward,
    Wkv7Backward,
    Wkv7BonusBackward,
    Wkv7KeysBackward>;
// clang-format on

}  // namespace statespace::cuda
