#pragma once
// Writes the keys and values of new tokens into their sequences' pages, converting to the pages' dtype.
// Token t of sequence s goes to position positions[t]: page pageTable[s][position / page_size]. Where that page is -1,
// behind the window already, the token is not kept.
#include "core/fields.h"

namespace statespace {

struct CacheAppend {
  static constexpr const char* kName = "cacheAppend";
  Tensor k, v, cu_seqlens, positions, page_table, k_pages, v_pages;

  template <class V>
  void fields(V& v) {
    v.in("k", k, "tokens nheads_kv headdim");
    v.in("v", this->v, "tokens nheads_kv headdim");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("positions", positions, "tokens");
    v.runtime("pageTable", page_table, "sequences max_pages");
    v.state("kPages", k_pages, "pages nheads_kv page_size headdim", kFloats);
    v.state("vPages", v_pages, "pages nheads_kv page_size headdim", kFloats);
  }
};

}  // namespace statespace
