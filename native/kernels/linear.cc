#include "ops/linear.h"

#include "backend/kernels.h"
#include "kernels/matmul.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Linear& op, Context& cx) {
  Epilogue e;
  if (op.bias) e.bias = op.bias.f32();
  e.activation = op.activation;
  if (op.residual) e.residual = op.residual;
  matmul(cx, op.x, op.x[0], op.weight, e, op.y, cx.shared<char>(matmul_scratch(op.weight, op.x[0])));
}

}  // namespace statespace::STATESPACE_ISA
