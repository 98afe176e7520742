#include "ops/select_last.h"

#include <cstring>

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const SelectLast& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  const int64_t bytes = op.x[1] * int64_t(sizeof(float));
  cx.parallel_for(sequences.count, [&](int64_t s, int) {
    const int64_t end = sequences.end(s);
    if (end > sequences.begin(s))
      std::memcpy(op.y.row(s), op.x.row(end - 1), bytes);
    else
      std::memset(op.y.row(s), 0, bytes);
  });
}

}  // namespace statespace::STATESPACE_ISA
