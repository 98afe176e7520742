#include "product.h"

namespace statespace::cuda {

Product::Product(const Tensor& w, const Sequences& groups)
    : weight(global_data<const uint8_t>(w)),
      dtype(w.dtype),
      group_stride(w.rank > 2 ? w.row_stride : 0),
      row_stride(w.rank > 2 ? w[w.rank - 1] : w.row_stride),
      in(int(w[w.rank - 1])),
      out(int(w.rank > 2 ? w.row_size() / larger<int64_t>(w[w.rank - 1], 1) : w[0])),
      groups(groups) {
  const int64_t step = dtype == DType::f32 ? 4 : 8;
  aligned = reinterpret_cast<uintptr_t>(w.data) % 16 == 0 && group_stride % step == 0 && row_stride % step == 0;
}

void product(const Product& p) {
  if (p.rows() == 0 || p.out == 0) return;
  if (p.rows() <= int64_t(kFewRows) * p.groups.count) return product_few(p);
  if (p.dtype == DType::f32 || p.exact) return product_fma(p);
  product_mma(p);
}

}  // namespace statespace::cuda
