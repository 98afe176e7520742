#include "ops/select_rows.h"

#include <cstring>

#include "backend/kernels.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const SelectRows& op, Context&) {
  for (int64_t i = 0; i < op.y[0]; ++i) std::memcpy(op.y.row(i), op.x.row(op.rows.i32()[i]), op.y[1] * 4);
}

}  // namespace statespace::STATESPACE_ISA
