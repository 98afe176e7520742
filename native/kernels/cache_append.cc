#include "ops/cache_append.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

template <class T>
void copy_row(const float* from, T* to, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(to + i, load(from + i));
  if (i < n) store(to + i, load(from + i, int(n - i)), int(n - i));
}

// One token's heads (nheads_kv, headdim) into its place of a page (nheads_kv, page_size, headdim).
template <class T>
void put(const Tensor& x, const Tensor& pages, int64_t token, int64_t page, int64_t place) {
  const int64_t heads = pages[1], page_size = pages[2], headdim = pages[3];
  T* to = pages.as<T>() + page * pages.row_stride + place * headdim;
  for (int64_t h = 0; h < heads; ++h) copy_row(x.row(token) + h * headdim, to + h * page_size * headdim, headdim);
}

void put(const Tensor& x, const Tensor& pages, int64_t token, int64_t page, int64_t place) {
  if (pages.dtype == DType::f32) return put<float>(x, pages, token, page, place);
  if (pages.dtype == DType::f16) return put<f16_t>(x, pages, token, page, place);
  put<bf16_t>(x, pages, token, page, place);
}

}  // namespace

template <>
void run(const CacheAppend& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.k[0]);
  const int64_t page_size = op.k_pages[2];
  constexpr int64_t kTokens = 64;  // a task's share: some ten microseconds of copying
  cx.parallel_for(ceil_div(op.k[0], kTokens), [&](int64_t i, int) {
    const int64_t begin = i * kTokens, end = begin + kTokens < op.k[0] ? begin + kTokens : op.k[0];
    int64_t s = 0;
    for (int64_t t = begin; t < end; ++t) {
      while (s + 1 < sequences.count && t >= sequences.end(s)) ++s;
      const int64_t position = op.positions.i32()[t];
      const int64_t page = op.page_table.i32()[s * op.page_table.row_stride + position / page_size];
      if (page < 0) continue;
      put(op.k, op.k_pages, t, page, position % page_size);
      put(op.v, op.v_pages, t, page, position % page_size);
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
