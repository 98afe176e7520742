// Kernels that move more bytes than they multiply: d_model 4096, heads of 128, prefills of 16,384 tokens.
#include "bench/case.h"
#include "ops/ops.h"

namespace statespace::bench {
namespace {

constexpr int64_t kTokens = 16384, kModel = 4096, kHeads = 32, kHeadDim = 128, kPages = 512, kPageSize = 64;

// One thing per value of (tokens, channels): `operations` each.
template <class Op, class Make>
Case pointwise(std::string shape, double operations, Make make) {
  return make_case<Op>(std::move(shape), kTokens, operations * double(kTokens * kModel), "", make);
}

std::vector<int32_t> counting(int64_t n) {
  std::vector<int32_t> list;
  for (int64_t i = 0; i < n; ++i) list.push_back(int32_t(i));
  return list;
}

}  // namespace

std::vector<Case> streaming_cases() {
  const std::string model = "d_model 4096";
  std::vector<Case> all;
  all.push_back(pointwise<Activate>(model + ", silu", 3, [](Activate& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.y = t.values({kTokens, kModel}), op.activation = 1;
  }));
  all.push_back(pointwise<Add>(model, 3, [](Add& op, Tensors& t) {
    op.a = t.values({kTokens, kModel}), op.b = t.values({kTokens, kModel}), op.y = t.values({kTokens, kModel});
  }));
  all.push_back(pointwise<Affine>(model, 2, [](Affine& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.scale = t.values({kModel}), op.shift = t.values({kModel});
    op.y = t.values({kTokens, kModel});
  }));
  all.push_back(make_case<ExpertWeights>("256 experts in 8 groups, 8 a token", kTokens, double(kTokens * 256) * 20,
                                         "a token is one warp, which looks for its experts one after the other",
                                         [](ExpertWeights& op, Tensors& t) {
                                           op.logits = t.values({kTokens, 256}), op.bias = t.values({256});
                                           op.weights = t.values({kTokens, 256}), op.score = 1;
                                           op.groups = 8, op.topk_groups = 4, op.top_k = 8;
                                         }));
  all.push_back(pointwise<Gate>(model + ", silu", 4, [](Gate& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.gate = t.values({kTokens, kModel}), op.y = t.values({kTokens, kModel});
    op.activation = 1;
  }));
  all.push_back(pointwise<Lerp>(model, 3, [](Lerp& op, Tensors& t) {
    op.a = t.values({kTokens, kModel}), op.b = t.values({kTokens, kModel}), op.w = t.values({kModel});
    op.y = t.values({kTokens, kModel});
  }));
  all.push_back(pointwise<SelectRows>(model, 0, [](SelectRows& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.rows = t.integers(counting(kTokens)), op.y = t.values({kTokens, kModel});
  }));
  all.push_back(pointwise<Reverse>(model, 0, [](Reverse& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.cu_seqlens = t.bounds(8, kTokens / 8), op.y = t.values({kTokens, kModel});
  }));
  all.push_back(pointwise<Embedding>(model + ", bf16 table", 1, [](Embedding& op, Tensors& t) {
    op.ids = t.integers(counting(kTokens)), op.weight = t.values({32768, kModel}, -1, 1, DType::bf16);
    op.y = t.values({kTokens, kModel});
  }));
  all.push_back(pointwise<MeanPool>(model + ", 8 sequences", 4, [](MeanPool& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.cu_seqlens = t.bounds(8, kTokens / 8);
    op.state = t.values({8, kModel}, 0, 0), op.y = t.values({8, kModel});
  }));
  all.back().loses = "a sequence is one block of 32 channels: 128 blocks at batch 1";
  all.push_back(pointwise<RmsNorm>(model, 4, [](RmsNorm& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.weight = t.values({kModel}), op.y = t.values({kTokens, kModel});
  }));
  all.back().loses = "reads a row twice, the second time from the L1 or L2 cache";
  all.push_back(pointwise<LayerNorm>(model, 7, [](LayerNorm& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.weight = t.values({kModel}), op.bias = t.values({kModel});
    op.y = t.values({kTokens, kModel});
  }));
  all.back().loses = "reads a row three times, twice from the L1 or L2 cache";
  all.push_back(pointwise<Rope>("32 heads of 128", 3, [](Rope& op, Tensors& t) {
    op.x = t.values({kTokens, kHeads, kHeadDim}), op.inv_freq = t.values({kHeadDim / 2}, 0, 1);
    op.positions = t.integers(counting(kTokens)), op.y = t.values({kTokens, kHeads, kHeadDim});
  }));
  all.back().loses = "angles are reduced in f64, once for 4 heads: slow on GPUs with few f64 units";
  all.push_back(pointwise<CacheAppend>("32 heads of 128, bf16 pages", 0, [](CacheAppend& op, Tensors& t) {
    op.k = t.values({kTokens, kHeads, kHeadDim}), op.v = t.values({kTokens, kHeads, kHeadDim});
    op.cu_seqlens = t.bounds(1, kTokens), op.positions = t.integers(counting(kTokens));
    op.page_table = t.integers(counting(kTokens / kPageSize));
    op.page_table.rank = 2, op.page_table.shape[0] = 1, op.page_table.shape[1] = kTokens / kPageSize;
    op.page_table.row_stride = kTokens / kPageSize;
    op.k_pages = t.values({kPages, kHeads, kPageSize, kHeadDim}, 0, 0, DType::bf16);
    op.v_pages = t.values({kPages, kHeads, kPageSize, kHeadDim}, 0, 0, DType::bf16);
  }));
  all.push_back(pointwise<TokenShift>(model, 0, [](TokenShift& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.state = t.values({1, kModel}), op.y = t.values({kTokens, kModel});
  }));
  all.push_back(pointwise<TokenShiftMix>(model + ", 6 mixes", 18, [](TokenShiftMix& op, Tensors& t) {
    op.x = t.values({kTokens, kModel}), op.mix = t.values({6, kModel}), op.state = t.values({1, kModel});
    op.y = t.values({kTokens, 6, kModel});
  }));
  all.push_back(make_case<CausalConv1d>(
      "channels 5120, d_conv 4", kTokens, double(kTokens * 5120) * 11,
      "a piece of 32 tokens reads 3 tokens of the one before again: 9 % more of x", [](CausalConv1d& op, Tensors& t) {
        op.x = t.values({kTokens, 5120}), op.weight = t.values({5120, 4}), op.bias = t.values({5120});
        op.cu_seqlens = t.bounds(8, kTokens / 8), op.state = t.values({8, 5120, 3}), op.y = t.values({kTokens, 5120});
        op.activation = 1;
      }));
  all.push_back(make_case<Discretize>("d_inner 1024, d_state 16", 4096, 4096.0 * 1024 * 16 * 6, "",
                                      [](Discretize& op, Tensors& t) {
                                        op.delta = t.values({4096, 1024}, 0.01f, 0.1f);
                                        op.A = t.values({1024, 16}, -8, -1), op.B = t.values({4096, 1, 16});
                                        op.Abar = t.values({4096, 1024, 16}), op.Bbar = t.values({4096, 1024, 16});
                                      }));
  return all;
}

}  // namespace statespace::bench
