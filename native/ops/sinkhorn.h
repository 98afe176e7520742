#pragma once
// A matrix near to doubly stochastic, per token (Sinkhorn & Knopp 1967; GLM-5's hyper-connections): with a row for each
// index of the first axis, M = softmax of every row + eps; columns are divided by their sum + eps; then iterations - 1
// times rows, and columns, by theirs.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct Sinkhorn {
  static constexpr const char* kName = "sinkhorn";
  Tensor x, y;
  int64_t iterations = 20;
  float eps = 1e-6f;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens streams streams");
    v.out("y", y, "tokens streams streams");
    v.attr("iterations", iterations);
    v.attr("eps", eps);
  }

  void check() const {
    if (iterations < 1 || iterations > 10000)
      throw Error(Code::kArgument, "sinkhorn: iterations: expected 1 to 10000, received " + std::to_string(iterations));
    if (x[1] > 64) throw Error(Code::kShape, "sinkhorn: at most 64 streams, not " + std::to_string(x[1]));
  }
};

// Backwards through the divisions by sums T_i, of which y = x / T is what follows: dx = (dy - Σ dy∘y) / T, and through
// the softmax as any. The matrices between are made again from the last one and the sums.
struct SinkhornBackward {
  static constexpr const char* kName = "sinkhornBackward";
  using GradientOf = Sinkhorn;
  Tensor x, dy, dx;
  int64_t iterations = 20;
  float eps = 1e-6f;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens streams streams");
    v.in("dy", dy, "tokens streams streams");
    v.wanted("dx", dx, "tokens streams streams");
    v.attr("iterations", iterations);
    v.attr("eps", eps);
  }

  void check() const {
    Sinkhorn op;
    op.x = x, op.iterations = iterations;
    op.check();
  }
};

}  // namespace statespace
