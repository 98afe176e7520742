#pragma once
// What each instruction set's kernels define. One specialisation of run() per op: a missing one does not link. The list
// of ops is not included, so that one more op leaves the kernels of the others compiled.
#include "core/context.h"
#include "core/tensor.h"

namespace statespace::STATESPACE_ISA {

template <class Op>
void run(const Op& op, Context& cx);

Tensor packed(const Tensor& weight, int64_t* bytes);
void pack(const Tensor& weight, const Tensor& packed, Context& cx);

}  // namespace statespace::STATESPACE_ISA
