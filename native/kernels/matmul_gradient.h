#pragma once
// The two products of a linear layer's gradient, over the tiles of the forward.
#include "kernels/matmul.h"

namespace statespace::STATESPACE_ISA {

// Bytes of 64-byte aligned scratch that both products with this weight need.
int64_t gradient_scratch(const Tensor& weight);

// Whether the products round to bf16, as the forward rounds x: a large weight of bf16 on a machine with its products.
bool rounds_gradients(const Context& cx, const Tensor& weight);

// dx (rows, in), or with `add` more of it, from dy (rows, out) and matrix `index` of the weight. f32 rows; with an
// index they are gathered and scattered. Sums are in an order that depends on the shapes alone. `pairs`: both sides are
// rounded to bf16 (rounds_gradients()).
void matmul_dx(const Context& cx, const Rows& dy, int64_t rows, const Tensor& weight, int64_t index, const Rows& dx,
               bool add, bool pairs, void* scratch);

// dweight (out, in), or with `add` more of it, = dyᵀ (out, rows) · x (rows, in). The same `pairs`.
void matmul_dweight(const Context& cx, const Rows& dy, const Rows& x, int64_t rows, int64_t out, int64_t in,
                    float* dweight, int64_t stride, bool add, bool pairs, void* scratch);

}  // namespace statespace::STATESPACE_ISA
