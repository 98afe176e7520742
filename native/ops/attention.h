#pragma once
// Softmax attention, tiled with an online softmax: the (queries, keys) matrix never exists (Dao et al. 2022).
//   y_i = Σ_j softmax_j(cap(scale · q_i·k_j)) v_j,   cap(s) = softcap · tanh(s / softcap)
// Query i of a sequence stands at key position p = i + keys - queries; causal lets it see keys up to p, window only
// those in (p - window, p]. A query that sees no key yields zeros. Query head h reads key head h / (nheads /
// nheads_kv). Keys are packed like the queries (cuSeqlensK, or cuSeqlens where that is absent) or lie in pages of a
// cache: sequence s has keyLengths[s] keys, key j in page pageTable[s][j / page_size]; pages behind the window may be
// -1. lse is the logarithm of a row's Σ_j e^score, 0 where it sees no key. A kernel may round q and the softmax's
// weights to the type of k and v; sums are f32.
#include "core/demands.h"
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct Attention {
  static constexpr const char* kName = "attention";
  Tensor q, k, v, cu_seqlens, cu_seqlens_k, page_table, key_lengths, y, lse;
  bool causal = true;
  float scale = 1;
  int64_t window = 0;
  float softcap = 0;

  template <class V>
  void fields(V& v) {
    v.in("q", q, "tokens nheads headdim", kFloats);
    v.in("k", k, "keys nheads_kv headdim | pages nheads_kv page_size headdim", kFloats);
    v.in("v", this->v, "keys nheads_kv headdim | pages nheads_kv page_size headdim", kFloats);
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("cuSeqlensK", cu_seqlens_k, "bounds");
    v.runtime("pageTable", page_table, "sequences max_pages");
    v.runtime("keyLengths", key_lengths, "sequences");
    v.out("y", y, "tokens nheads headdim");
    v.wanted("lse", lse, "tokens nheads");
    v.attr("causal", causal);
    v.attr("scale", scale);
    v.attr("window", window);
    v.attr("softcap", softcap);
  }

  bool paged() const { return k.rank == 4; }

  Demands demands() const {
    if (!paged()) return {.whole_sequences = true};
    return {.whole_sequences = !causal, .lookback = window == 0 ? Demands::kAllTokens : window};
  }

  void check() const {
    const int64_t nheads_kv = k[1];
    if (nheads_kv == 0 || q[1] % nheads_kv != 0)
      throw Error(Code::kShape, "attention: nheads " + std::to_string(q[1]) + " is no multiple of nheads_kv " +
                                    std::to_string(nheads_kv));
    if (paged() && (!page_table || !key_lengths))
      throw Error(Code::kArgument, "attention: paged keys need pageTable and keyLengths");
    if (k.dtype != v.dtype) throw Error(Code::kDType, "attention: k and v must have one dtype");
  }
};

// With the softmax's weights P again from the scores and lse, and r_i = dy_i·y_i:
//   dv = Pᵀdy,   ds = P ∘ (dy vᵀ - r) · cap'(scale·qk),   dq = scale·ds k,   dk = scale·dsᵀq
// tiled as the forward is. y and lse are what the forward gave; without them it is run again. Keys are packed, not
// paged.
struct AttentionBackward {
  static constexpr const char* kName = "attentionBackward";
  using GradientOf = Attention;
  Tensor q, k, v, cu_seqlens, cu_seqlens_k, y, lse, dy, dq, dk, dv;
  bool causal = true;
  float scale = 1;
  int64_t window = 0;
  float softcap = 0;

  template <class V>
  void fields(V& v) {
    v.in("q", q, "tokens nheads headdim", kFloats);
    v.in("k", k, "keys nheads_kv headdim", kFloats);
    v.in("v", this->v, "keys nheads_kv headdim", kFloats);
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("cuSeqlensK", cu_seqlens_k, "bounds");
    v.optional("y", y, "tokens nheads headdim");
    v.optional("lse", lse, "tokens nheads");
    v.in("dy", dy, "tokens nheads headdim");
    v.wanted("dq", dq, "tokens nheads headdim");
    v.wanted("dk", dk, "keys nheads_kv headdim");
    v.wanted("dv", dv, "keys nheads_kv headdim");
    v.attr("causal", causal);
    v.attr("scale", scale);
    v.attr("window", window);
    v.attr("softcap", softcap);
  }

  // The forward that this is the gradient of, without a place for y.
  Attention forward() const {
    Attention op;
    op.q = q, op.k = k, op.v = v, op.cu_seqlens = cu_seqlens, op.cu_seqlens_k = cu_seqlens_k;
    op.causal = causal, op.scale = scale, op.window = window, op.softcap = softcap;
    return op;
  }

  void check() const { forward().check(); }
};

}  // namespace statespace
