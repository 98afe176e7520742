#pragma once
// What each instruction set's kernels define. One specialisation of run() per op: a missing one does not link.
#include "backend/backend.h"

namespace statespace::STATESPACE_ISA {

template <class Op>
void run(const Op& op, Context& cx);

Tensor packed(const Tensor& weight, int64_t* bytes);
void pack(const Tensor& weight, const Tensor& packed, Context& cx);

}  // namespace statespace::STATESPACE_ISA
