#pragma once
// A causal convolution as long as the sequence that continues (Hyena, Poli et al. 2023): the inputs of a session are
// kept, and new tokens are convolved with all of them,
//   y_t = Σ_{s=0..p} kernel[s] x_{p-s} + D x_t,   p = positions[t]
// per channel. Position q of sequence s lies in page pageTable[s][q / page_size] of the history; the op writes the new
// inputs there. A step costs O(p). T new tokens are convolved block by block through transforms of about T points, in
// time O(p log T) and memory that does not grow with p. Taps past the kernel's end are zero.
#include "core/demands.h"
#include "core/fields.h"

namespace statespace {

struct LongConv {
  static constexpr const char* kName = "longConv";
  Tensor x, kernel, D, cu_seqlens, positions, page_table, history, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("kernel", kernel, "kernel_len channels");
    v.optional("D", D, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("positions", positions, "tokens");
    v.runtime("pageTable", page_table, "sequences max_pages");
    v.state("history", history, "pages 1 page_size channels");
    v.out("y", y, "tokens channels");
  }

  // It needs the history from the first token on, and has no taps beyond kernel_len.
  Demands demands() const { return {.longest = kernel[0], .lookback = Demands::kAllTokens}; }
};

}  // namespace statespace
