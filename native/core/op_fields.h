#pragma once
// An op's tensors and attributes as lists: what treats all ops alike is compiled once, not once for each op.
#include <variant>
#include <vector>

#include "core/fields.h"

namespace statespace {

struct OpTensor {
  FieldKind kind;
  const char* name;
  const char* shape;
  const char* dtypes;
  Tensor* tensor;
};

struct OpAttr {
  const char* name;
  std::variant<bool*, int32_t*, int64_t*, float*> value;  // int32_t: an index into the choices
  const char* choices;
};

// Points into `op`, which stays where it is.
struct OpFields : FieldVisitor<OpFields> {
  template <class Op>
  explicit OpFields(Op& op) {
    op.fields(*this);
  }
  void tensor(FieldKind kind, const char* name, Tensor& t, const char* shape, const char* dtypes) {
    tensors.push_back({kind, name, shape, dtypes, &t});
  }
  template <class T>
  void attr(const char* name, T& value) {
    attrs.push_back({name, &value, ""});
  }
  void choice(const char* name, int32_t& value, const char* names) { attrs.push_back({name, &value, names}); }

  std::vector<OpTensor> tensors;
  std::vector<OpAttr> attrs;
};

}  // namespace statespace
