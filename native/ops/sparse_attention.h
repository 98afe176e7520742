#pragma once
// Causal attention over pages, or over the call's own packed tokens, that looks at a part of the keys, or weighs them
// by distance. Query i of a sequence
// stands at position p = keys - queries + i and sees keys j <= p, with a window those in (p - window, p]:
//   y_i = Σ_j softmax_j(τ_p (scale · q_i·k_j + (rel_i relProj)[p - j])) v_j      (relProj: 0 from `extent` on)
//   τ_p = 1 + logAlpha · ln(max((p + 1) / logFloor, 1)) where logFloor > 0, else 1      (Inkling)
// With indexQ it sees of the p + 1 keys the topBlocks best blocks of `blockSize`, among those that are complete, and
// the keys behind the last complete one. A block's score, ties to the earlier block:
//   Σ_h w_h relu(indexScale · indexQ_h · c),   w = indexWeights or 1,   c made of the rows of indexKeys:
//   indexApe absent (Qwen4)   c = RMSNorm(mean of the rows) · (1 + indexNorm), rotated by indexFreq at the block's
//   first indexApe given (GLM-5)    rows are [key | gate]; c = Σ softmax over the block, by channels, of (gate + ape) ·
//   key
#include "core/demands.h"
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct SparseAttention {
  static constexpr const char* kName = "sparseAttention";
  Tensor q, k, v, rel, rel_proj, index_q, index_weights, index_keys, index_norm, index_freq, index_ape;
  Tensor cu_seqlens, page_table, key_lengths, y;
  float scale = 1;
  int64_t window = 0;
  float log_floor = 0, log_alpha = 0;
  int64_t block_size = 1, top_blocks = 1;
  float index_scale = 1, index_eps = 1e-6f;

  template <class V>
  void fields(V& v) {
    v.in("q", q, "tokens nheads headdim");
    v.in("k", k, "keys nheads_kv headdim | pages nheads_kv page_size headdim", kFloats);
    v.in("v", this->v, "keys nheads_kv headdim | pages nheads_kv page_size headdim", kFloats);
    v.optional("rel", rel, "tokens nheads rank");
    v.optional("relProj", rel_proj, "rank extent");
    v.optional("indexQ", index_q, "tokens index_heads index_dim");
    v.optional("indexWeights", index_weights, "tokens index_heads");
    v.optional("indexKeys", index_keys, "keys 1 index_width | pages 1 page_size index_width", kFloats);
    v.optional("indexNorm", index_norm, "index_dim");
    v.optional("indexFreq", index_freq, "half");
    v.optional("indexApe", index_ape, "block index_dim");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("pageTable", page_table, "sequences max_pages");
    v.runtime("keyLengths", key_lengths, "sequences");
    v.out("y", y, "tokens nheads headdim");
    v.attr("scale", scale);
    v.attr("window", window);
    v.attr("logFloor", log_floor);
    v.attr("logAlpha", log_alpha);
    v.attr("blockSize", block_size);
    v.attr("topBlocks", top_blocks);
    v.attr("indexScale", index_scale);
    v.attr("indexEps", index_eps);
  }

  bool paged() const { return k.rank == 4; }

  Demands demands() const {
    if (!paged()) return {.whole_sequences = true};
    return {.lookback = window == 0 || index_q ? Demands::kAllTokens : window};
  }

  void check() const {
    auto fail = [](const std::string& what) { throw Error(Code::kArgument, "sparseAttention: " + what); };
    if (k[1] == 0 || q[1] % k[1] != 0)
      throw Error(Code::kShape, "sparseAttention: nheads " + std::to_string(q[1]) + " is no multiple of nheads_kv " +
                                    std::to_string(k[1]));
    if (paged() && (!page_table || !key_lengths)) fail("paged keys need pageTable and keyLengths");
    if (!paged() && k[0] != q[0]) fail("packed keys are those of the queries' tokens");
    if (k.dtype != v.dtype || (index_keys && index_keys.dtype != k.dtype))
      throw Error(Code::kDType, "sparseAttention: k, v and indexKeys must have one dtype");
    if (bool(rel) != bool(rel_proj)) fail("rel and relProj belong together");
    if (!index_q) return;
    if (!index_keys || bool(index_norm) == bool(index_ape)) fail("indexQ needs indexKeys, and indexNorm or indexApe");
    if (block_size < 1 || top_blocks < 1) fail("blockSize and topBlocks: expected at least 1");
    const int64_t dim = index_q[2], width = index_ape ? 2 * dim : dim;
    if (index_keys.rank != k.rank) fail("indexKeys must be packed or in pages as k is");
    if (index_keys[index_keys.rank - 1] != width)
      throw Error(Code::kShape, "sparseAttention: indexKeys: expected rows of " + std::to_string(width));
    if (index_ape && index_ape[0] != block_size)
      throw Error(Code::kShape,
                  "sparseAttention: indexApe: expected blockSize=" + std::to_string(block_size) + " rows");
    if (index_freq && 2 * index_freq[0] > dim)
      throw Error(Code::kShape, "sparseAttention: indexFreq rotates more than " + std::to_string(dim) + " channels");
  }
};

// With the softmax's weights P over the keys that are seen, from the scores again:
//   dv = Pᵀdy,   ds = τ P ∘ (dy vᵀ - Σ_j P dy vᵀ),   dq = scale · ds k,   dk = scale · dsᵀq
//   drel = ds relProjᵀ,   drelProj = relᵀds, both by distance
// Which keys are seen has no gradient: the index's tensors only choose them. Keys are packed, not paged.
struct SparseAttentionBackward {
  static constexpr const char* kName = "sparseAttentionBackward";
  using GradientOf = SparseAttention;
  static constexpr const char* kChosenBy = "indexQ indexWeights indexKeys indexNorm indexApe";
  Tensor q, k, v, rel, rel_proj, index_q, index_weights, index_keys, index_norm, index_freq, index_ape;
  Tensor cu_seqlens, dy, dq, dk, dv, drel, drel_proj;
  float scale = 1;
  int64_t window = 0;
  float log_floor = 0, log_alpha = 0;
  int64_t block_size = 1, top_blocks = 1;
  float index_scale = 1, index_eps = 1e-6f;

  template <class V>
  void fields(V& v) {
    v.in("q", q, "tokens nheads headdim");
    v.in("k", k, "keys nheads_kv headdim");
    v.in("v", this->v, "keys nheads_kv headdim");
    v.optional("rel", rel, "tokens nheads rank");
    v.optional("relProj", rel_proj, "rank extent");
    v.optional("indexQ", index_q, "tokens index_heads index_dim");
    v.optional("indexWeights", index_weights, "tokens index_heads");
    v.optional("indexKeys", index_keys, "keys 1 index_width");
    v.optional("indexNorm", index_norm, "index_dim");
    v.optional("indexFreq", index_freq, "half");
    v.optional("indexApe", index_ape, "block index_dim");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens nheads headdim");
    v.wanted("dq", dq, "tokens nheads headdim");
    v.wanted("dk", dk, "keys nheads_kv headdim");
    v.wanted("dv", dv, "keys nheads_kv headdim");
    v.wanted("drel", drel, "tokens nheads rank");
    v.wanted("drelProj", drel_proj, "rank extent");
    v.attr("scale", scale);
    v.attr("window", window);
    v.attr("logFloor", log_floor);
    v.attr("logAlpha", log_alpha);
    v.attr("blockSize", block_size);
    v.attr("topBlocks", top_blocks);
    v.attr("indexScale", index_scale);
    v.attr("indexEps", index_eps);
  }

  SparseAttention forward() const {
    SparseAttention op;
    op.q = q, op.k = k, op.v = v, op.rel = rel, op.rel_proj = rel_proj, op.cu_seqlens = cu_seqlens;
    op.index_q = index_q, op.index_weights = index_weights, op.index_keys = index_keys, op.index_norm = index_norm;
    op.index_freq = index_freq, op.index_ape = index_ape;
    op.scale = scale, op.window = window, op.log_floor = log_floor, op.log_alpha = log_alpha;
    op.block_size = block_size, op.top_blocks = top_blocks, op.index_scale = index_scale, op.index_eps = index_eps;
    return op;
  }

  void check() const { forward().check(); }
};

}  // namespace statespace
