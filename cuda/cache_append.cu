#include "ops/cache_append.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// Token t's keys and values, (nheads_kv, headdim), to their place in a page of (nheads_kv, page_size, headdim).
template <class T>
struct Appended {
  Rows<const float> k, v;
  Rows<T> k_pages, v_pages;
  Sequences sequences;
  global<const int32_t> positions;
  Rows<const int32_t> page_table;
  int64_t page_size, headdim;

  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
    const int position = positions[t];
    const int page = page_table[sequences.containing(int(t))][position / page_size];
    if (page < 0) return;  // behind the window already
    const int64_t head = c / headdim, i = (head * page_size + position % page_size) * headdim + c % headdim;
    const Vec<W> key = load<W>(k[t], c), value = load<W>(v[t], c);
#pragma unroll
    for (int j = 0; j < W; ++j) {
      k_pages[page][i + j] = from_float<T>(key.v[j]);
      v_pages[page][i + j] = from_float<T>(value.v[j]);
    }
  }
};

template <class T>
void append(const CacheAppend& op) {
  const bool fours = op.k[2] % 4 == 0 && by_fours(op.k, op.v);
  launch_pointwise(Appended<T>{op.k, op.v, op.k_pages, op.v_pages, Sequences(op.cu_seqlens, {}, op.k[0]),
                               global_data<const int32_t>(op.positions), op.page_table, op.k_pages[2], op.k[2]},
                   op.k[0], op.k[1] * op.k[2], fours);
}

}  // namespace

template <>
void run(const CacheAppend& op) {
  if (op.k_pages.dtype == DType::f32) return append<float>(op);
  if (op.k_pages.dtype == DType::f16) return append<f16>(op);
  append<bf16>(op);
}

}  // namespace statespace::cuda
