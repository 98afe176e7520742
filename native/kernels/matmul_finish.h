#pragma once
// What follows a product, on its way from a tile's sums to y.
#include "isa/math.h"
#include "kernels/matmul.h"
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {

// Calls fn with a value of x's type.
template <class Fn>
void with_float(DType dtype, Fn&& fn) {
  if (dtype == DType::bf16) return fn(bf16_t{});
  if (dtype == DType::f16) return fn(f16_t{});
  fn(float{});
}

// Where a panel's results, outputs from `o` on, will be written, and what is multiplied with them and added: stores to
// memory that no cache holds wait for it, and loads all the more (91 % of the time of adding a residual).
inline void fetch_results(const Epilogue& e, const Rows& y, int64_t first, int m, int64_t o, int64_t out) {
  const int64_t end = out < o + kPanel ? out : o + kPanel;
  const auto fetch = [&](const Rows& rows) {
    for (int64_t r = first; r < first + m; ++r)
      for (int64_t j = o; j < end; j += 16) prefetch(rows.row<float>(r) + j);
  };
  fetch(y);
  if (e.gate.data) fetch(e.gate);
  if (e.residual.data && e.residual.data != y.data) fetch(e.residual);
}

// Outputs [o, o + n) of rows [first, first + m), from sums (m, stride).
template <class Act>
void finish(const Epilogue& e, const Rows& y, int64_t first, int m, int64_t o, int n, const float* sums, int64_t stride,
            Act act) {
  for (int i = 0; i < m; ++i) {
    const int64_t r = first + i;
    const float* from = sums + i * stride;
    float* to = y.row<float>(r) + o;
    for (int j = 0; j < n; j += kLanes) {
      const int lanes = n - j < kLanes ? n - j : kLanes;
      F v = load(from + j);
      if (e.bias) v = v + load(e.bias + o + j, lanes);
      v = act(v);
      if (e.scale) v = v * set(e.scale[r]);
      if (e.gate.data) v = v * load(e.gate.row<float>(r) + o + j, lanes);
      if (e.residual.data) v = v + load(e.residual.row<float>(r) + o + j, lanes);
      store(to + j, v, lanes);
    }
  }
}

inline void finish(const Epilogue& e, const Rows& y, int64_t first, int m, int64_t o, int n, const float* sums,
                   int64_t stride) {
  if (!e.bias && !e.activation && !e.scale && !e.gate.data && !e.residual.data) {
    for (int i = 0; i < m; ++i, sums += stride) {
      float* to = y.row<float>(first + i) + o;
      int j = 0;
      for (; j + kLanes <= n; j += kLanes) store(to + j, load(sums + j));
      if (j < n) store(to + j, load(sums + j), n - j);
    }
    return;
  }
  with_activation(e.activation, [&](auto act) { finish(e, y, first, m, o, n, sums, stride, act); });
}

}  // namespace statespace::STATESPACE_ISA
