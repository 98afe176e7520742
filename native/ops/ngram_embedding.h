#pragma once
// Rows of a table for the n-grams that end in a token, n = 2 … gram (Qwen4's per-layer embeddings). Of a token t,
// with `id(s)` the token s before it in its sequence and segment (eos ends a segment; before it stands eos):
//   m_n = xor_{s<n} id(s) · multipliers_s   (64 bits, overflow wraps)
//   y[t, j] = weight[m_n mod sizes_j + offsets_j]   for the per_gram heads j of each n in turn; mod as a remainder >= 0
// Multipliers, sizes and offsets are 64-bit integers as four words of 16 bits, lowest first. The state holds the last
// gram - 1 tokens, newest first, each + 1; 0 is none.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct NgramEmbedding {
  static constexpr const char* kName = "ngramEmbedding";
  Tensor ids, weight, multipliers, sizes, offsets, cu_seqlens, slots, state, y;
  int64_t eos = 0, per_gram = 1;

  template <class V>
  void fields(V& v) {
    v.runtime("ids", ids, "tokens");
    v.in("weight", weight, "rows width", kWeights);
    v.in("multipliers", multipliers, "gram 4");
    v.in("sizes", sizes, "heads 4");
    v.in("offsets", offsets, "heads 4");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool gram-1");
    v.out("y", y, "tokens heads width");
    v.attr("eos", eos);
    v.attr("perGram", per_gram);
  }

  void check() const {
    const int64_t gram = multipliers[0];
    if (gram < 2 || gram > 16) throw Error(Code::kShape, "ngramEmbedding: n-grams of 2 to 16 tokens");
    if (per_gram < 1 || sizes[0] != (gram - 1) * per_gram)
      throw Error(Code::kShape, "ngramEmbedding: expected " + std::to_string(gram - 1) + " times perGram heads");
    if (state[1] != gram - 1) throw Error(Code::kShape, "ngramEmbedding: state: expected gram - 1 tokens");
  }
};

// dweight_i = the sum of the rows of dy that were looked up there, with accumulate added to what is there. Sequences
// begin without tokens before them.
struct NgramEmbeddingBackward {
  static constexpr const char* kName = "ngramEmbeddingBackward";
  using GradientOf = NgramEmbedding;
  Tensor ids, multipliers, sizes, offsets, cu_seqlens, dy, dweight;
  int64_t eos = 0, per_gram = 1;
  bool accumulate = false;

  template <class V>
  void fields(V& v) {
    v.runtime("ids", ids, "tokens");
    v.in("multipliers", multipliers, "gram 4");
    v.in("sizes", sizes, "heads 4");
    v.in("offsets", offsets, "heads 4");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens heads width");
    v.wanted("dweight", dweight, "rows width");
    v.attr("eos", eos);
    v.attr("perGram", per_gram);
    v.attr("accumulate", accumulate);
  }

  void check() const {
    const int64_t gram = multipliers[0];
    if (gram < 2 || gram > 16) throw Error(Code::kShape, "ngramEmbeddingBackward: n-grams of 2 to 16 tokens");
    if (per_gram < 1 || sizes[0] != (gram - 1) * per_gram)
      throw Error(Code::kShape,
                  "ngramEmbeddingBackward: expected " + std::to_string(gram - 1) + " times perGram heads");
  }
};

}  // namespace statespace
