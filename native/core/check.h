#pragma once
// Checks an op's tensors against the shapes that its fields() declares, and names what is wrong.
#include <string>
#include <vector>

#include "core/fields.h"

namespace statespace {

// Sizes of the symbols seen so far in one op.
class Symbols {
 public:
  int64_t* find(const std::string& name);
  void set(const std::string& name, int64_t size);

 private:
  std::vector<std::pair<std::string, int64_t>> sizes_;
};

class Checker {
 public:
  explicit Checker(const char* op) : op_(op) {}
  // Throws ERR_SHAPE or ERR_DTYPE. An absent optional, state or runtime tensor passes. Returns the alternative of the
  // shape that the tensor has; empty where it is absent.
  std::string tensor(FieldKind kind, const char* name, const Tensor& t, const char* shape, const char* dtypes);

 private:
  const char* op_;
  Symbols symbols_;
};

template <class Op>
void check(Op& op) {
  Checker checker(Op::kName);
  each_tensor(op, [&](FieldKind kind, const char* name, Tensor& t, const char* shape, const char* dtypes) {
    checker.tensor(kind, name, t, shape, dtypes);
  });
  if constexpr (requires { op.check(); }) op.check();
}

}  // namespace statespace
