#pragma once
// y = alpha·a + beta·b; b may be one row for all tokens. y may be a or b.
#include "core/fields.h"

namespace statespace {

struct Add {
  static constexpr const char* kName = "add";
  Tensor a, b, y;
  float alpha = 1;
  float beta = 1;

  template <class V>
  void fields(V& v) {
    v.in("a", a, "tokens channels");
    v.in("b", b, "tokens channels | channels");
    v.out("y", y, "tokens channels");
    v.attr("alpha", alpha);
    v.attr("beta", beta);
  }
};

// da = alpha · dy, db = beta · dy, summed over the tokens where b is one row for all.
struct AddBackward {
  static constexpr const char* kName = "addBackward";
  using GradientOf = Add;
  Tensor dy, da, db;
  float alpha = 1;
  float beta = 1;

  template <class V>
  void fields(V& v) {
    v.in("dy", dy, "tokens channels");
    v.wanted("da", da, "tokens channels");
    v.wanted("db", db, "tokens channels | channels");
    v.attr("alpha", alpha);
    v.attr("beta", beta);
  }
};

}  // namespace statespace
