#pragma once
// The registry: this list is the only place that names all ops. Its order gives an op its id within one build; files
// and graphs name ops by kName.
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "ops/activate.h"
#include "ops/add.h"
#include "ops/affine.h"
#include "ops/attention.h"
#include "ops/cache_append.h"
#include "ops/causal_conv1d.h"
#include "ops/cross_entropy.h"
#include "ops/dense_conv.h"
#include "ops/dense_scan.h"
#include "ops/discretize.h"
#include "ops/discretize_dense.h"
#include "ops/embedding.h"
#include "ops/expert_weights.h"
#include "ops/fft_conv.h"
#include "ops/gate.h"
#include "ops/gated_delta_rule.h"
#include "ops/gla.h"
#include "ops/implicit_filter.h"
#include "ops/join_streams.h"
#include "ops/layer_norm.h"
#include "ops/lerp.h"
#include "ops/linear.h"
#include "ops/long_conv.h"
#include "ops/mamba3.h"
#include "ops/max_pool.h"
#include "ops/mean_pool.h"
#include "ops/mix_streams.h"
#include "ops/moe.h"
#include "ops/ngram_embedding.h"
#include "ops/retention.h"
#include "ops/retention_scale.h"
#include "ops/reverse.h"
#include "ops/rg_lru.h"
#include "ops/rms_norm.h"
#include "ops/rope.h"
#include "ops/s4_conv.h"
#include "ops/s4_kernel.h"
#include "ops/s4_recurrent.h"
#include "ops/select_rows.h"
#include "ops/selective_scan.h"
#include "ops/short_conv.h"
#include "ops/sinkhorn.h"
#include "ops/sparse_attention.h"
#include "ops/squared_error.h"
#include "ops/ssd.h"
#include "ops/stream_gate.h"
#include "ops/token_shift.h"
#include "ops/token_shift_mix.h"
#include "ops/whole_conv.h"
#include "ops/wkv4.h"
#include "ops/wkv6.h"
#include "ops/wkv7.h"
#include "ops/wkv7_bonus.h"
#include "ops/wkv7_keys.h"

namespace statespace {

template <class... Ops>
struct OpList {
  static constexpr int kCount = sizeof...(Ops);
  // fn.template operator()<Op>() for every op, in order.
  template <class Fn>
  static constexpr void each(Fn&& fn) {
    (fn.template operator()<Ops>(), ...);
  }
};

// clang-format off
using AllOps = OpList<
    Activate,
    ActivateBackward,
    Add,
    AddBackward,
    Affine,
    AffineBackward,
    Attention,
    AttentionBackward,
    CacheAppend,
    CausalConv1d,
    CausalConv1dBackward,
    CrossEntropy,
    CrossEntropyBackward,
    DenseConv,
    DenseConvBackward,
    DenseScan,
    DenseScanBackward,
    Discretize,
    DiscretizeDense,
    DiscretizeDenseBackward,
    Embedding,
    EmbeddingBackward,
    ExpertWeights,
    ExpertWeightsBackward,
    FftConv,
    FftConvBackward,
    Gate,
    GateBackward,
    GatedDeltaRule,
    GatedDeltaRuleBackward,
    Gla,
    GlaBackward,
    ImplicitFilter,
    ImplicitFilterBackward,
    JoinStreams,
    JoinStreamsBackward,
    LayerNorm,
    LayerNormBackward,
    Lerp,
    LerpBackward,
    Linear,
    LinearBackward,
    LinearCrossEntropy,
    LongConv,
    Mamba3,
    Mamba3Backward,
    MaxPool,
    MaxPoolBackward,
    MeanPool,
    MeanPoolBackward,
    MixStreams,
    MixStreamsBackward,
    Moe,
    MoeBackward,
    NgramEmbedding,
    NgramEmbeddingBackward,
    Retention,
    RetentionBackward,
    RetentionScale,
    RetentionScaleBackward,
    Reverse,
    ReverseBackward,
    RgLru,
    RgLruBackward,
    RmsNorm,
    RmsNormBackward,
    Rope,
    RopeBackward,
    S4Conv,
    S4ConvBackward,
    S4Kernel,
    S4KernelBackward,
    S4Recurrent,
    SelectiveScan,
    SelectiveScanBackward,
    SelectRows,
    ShortConv,
    Sinkhorn,
    SinkhornBackward,
    SparseAttention,
    SparseAttentionBackward,
    SquaredError,
    Ssd,
    SsdBackward,
    StreamGate,
    StreamGateBackward,
    TokenShift,
    TokenShiftBackward,
    TokenShiftMix,
    TokenShiftMixBackward,
    WholeConv,
    WholeConvBackward,
    Wkv4,
    Wkv4Backward,
    Wkv6,
    Wkv6Backward,
    Wkv7,
    Wkv7Backward,
    Wkv7Bonus,
    Wkv7BonusBackward,
    Wkv7Keys,
    Wkv7KeysBackward>;
// clang-format on

constexpr int kOpCount = AllOps::kCount;

// Changes when an op is added, moved, renamed or resized: two builds that differ in it cannot exchange op structs.
constexpr uint32_t kOpsFingerprint = [] {
  uint32_t hash = 2166136261u;  // FNV-1a
  AllOps::each([&]<class Op>() {
    for (const char* c = Op::kName; *c; ++c) hash = (hash ^ uint8_t(*c)) * 16777619u;
    hash = (hash ^ uint32_t(sizeof(Op))) * 16777619u;
  });
  return hash;
}();

// An op's id: its place in the list.
template <class Op>
constexpr int op_id() {
  int id = -1, i = 0;
  auto visit = [&]<class Other>() {
    if (std::is_same_v<Op, Other>) id = i;
    ++i;
  };
  AllOps::each(visit);
  return id;
}

// -1 for an unknown name.
inline int find_op(std::string_view name) {
  int id = -1, i = 0;
  AllOps::each([&]<class Op>() {
    if (name == Op::kName) id = i;
    ++i;
  });
  return id;
}

// Calls fn.template operator()<Op>() for the op with this id.
template <class Fn>
void with_op(int id, Fn&& fn) {
  int i = 0;
  AllOps::each([&]<class Op>() {
    if (i++ == id) fn.template operator()<Op>();
  });
}

}  // namespace statespace
