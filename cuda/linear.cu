#include "ops/linear.h"
#include "product.h"
#include "runtime.h"

namespace statespace::cuda {

template <>
void run(const Linear& op) {
  Product p(op.weight, Sequences(Tensor{}, Tensor{}, op.x[0]));
  p.x = op.x;
  p.epilogue.bias = global_data<const float>(op.bias);
  p.epilogue.activation = static_cast<Activation>(op.activation);
  p.epilogue.residual = op.residual;
  p.epilogue.y = op.y;
  product(p);
}

}  // namespace statespace::cuda
