#pragma once
// How an op describes itself. Every op struct has
//
//   static constexpr const char* kName = "selectiveScan";
//   template <class V> void fields(V& v);
//
// and fields() names each member once, in a fixed order, through these calls of a visitor v:
//
//   v.in(name, tensor, shape, dtypes)        must be given
//   v.optional(name, tensor, shape, dtypes)  may be absent (data == nullptr)
//   v.state(name, tensor, shape)             f32, read and written in place; axis 0 is chosen by `slots`
//   v.runtime(name, tensor, shape)           i32, filled in by the program runner: cu_seqlens, slots, positions …
//   v.out(name, tensor, shape)               written
//   v.wanted(name, tensor, shape)            written where it is given: nobody need ask for it
//   v.attr(name, bool|int64_t|float)         a number
//   v.choice(name, int32_t, "a|b|c")         one of the names, held as its index
//
// A shape is a list of symbols and integers, "tokens d_inner", alternatives separated by " | ". A symbol has one
// size throughout an op.
//
// An op's gradient is an op of its own, which says whose it is: `using GradientOf = Gate;`. Names do the rest. Its
// inputs are tensors of the forward by their names there (an output that is kept among them: y, lse), and dy, the
// gradient of the output y; it gives dx for an input x, each of them wanted or not; attributes and runtime tensors are
// the forward's. Where dy itself is the gradient of an input, as of a sum's, the gradient names it: kPassesOn =
// "residual". A loss gives the gradients of its inputs beside itself (wanted) and needs no second op.
//
// Everything else (marshalling, checks, messages, reference page, the graph's shape inference
// and the program decoder) is derived from this.
#include <string>

#include "core/tensor.h"

namespace statespace {

enum class FieldKind : uint8_t { in, optional, state, runtime, out, wanted };

constexpr const char* kF32 = "f32";
constexpr const char* kFloats = "f32 f16 bf16";
// Halves that the kernel reads as they lie where it runs on the host; a device is given floats.
constexpr const char* kHostFloats = "f32 host:f16 host:bf16";
constexpr const char* kWeights = "f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q2_k q3_k q4_k q5_k q6_k iq4_nl iq4_xs mxfp4";
constexpr const char* kI32 = "i32";

// Turns the six tensor calls into one: derive and write tensor(kind, name, t, shape, dtypes).
template <class Self>
struct FieldVisitor {
  Self& self() { return static_cast<Self&>(*this); }
  void in(const char* name, Tensor& t, const char* shape, const char* dtypes = kF32) {
    self().tensor(FieldKind::in, name, t, shape, dtypes);
  }
  void optional(const char* name, Tensor& t, const char* shape, const char* dtypes = kF32) {
    self().tensor(FieldKind::optional, name, t, shape, dtypes);
  }
  void state(const char* name, Tensor& t, const char* shape, const char* dtypes = kF32) {
    self().tensor(FieldKind::state, name, t, shape, dtypes);
  }
  void runtime(const char* name, Tensor& t, const char* shape) {
    self().tensor(FieldKind::runtime, name, t, shape, kI32);
  }
  void out(const char* name, Tensor& t, const char* shape, const char* dtypes = kF32) {
    self().tensor(FieldKind::out, name, t, shape, dtypes);
  }
  void wanted(const char* name, Tensor& t, const char* shape, const char* dtypes = kF32) {
    self().tensor(FieldKind::wanted, name, t, shape, dtypes);
  }
};

// A visitor that cares for tensors only.
template <class Fn>
struct EachTensor : FieldVisitor<EachTensor<Fn>> {
  explicit EachTensor(Fn fn) : fn(fn) {}
  void tensor(FieldKind kind, const char* name, Tensor& t, const char* shape, const char* dtypes) {
    fn(kind, name, t, shape, dtypes);
  }
  template <class T>
  void attr(const char*, T&) {}
  void choice(const char*, int32_t&, const char*) {}
  Fn fn;
};

constexpr bool is_written(FieldKind kind) { return kind == FieldKind::out || kind == FieldKind::wanted; }

template <class Op, class Fn>
void each_tensor(Op& op, Fn fn) {
  EachTensor<Fn> v(fn);
  op.fields(v);
}

// A visitor that cares for attributes only: fn(name, ref) and, for choices, fn(name, int32_t&) with names aside.
template <class Fn>
struct EachAttr : FieldVisitor<EachAttr<Fn>> {
  explicit EachAttr(Fn fn) : fn(fn) {}
  void tensor(FieldKind, const char*, Tensor&, const char*, const char*) {}
  template <class T>
  void attr(const char* name, T& value) {
    fn(name, value, "");
  }
  void choice(const char* name, int32_t& value, const char* names) { fn(name, value, names); }
  Fn fn;
};

template <class Op, class Fn>
void each_attr(Op& op, Fn fn) {
  EachAttr<Fn> v(fn);
  op.fields(v);
}

// The index of `name` in "a|b|c", or -1.
inline int find_choice(const char* choices, const std::string& name) {
  int index = 0;
  for (size_t start = 0;; ++index) {
    const std::string all = choices;
    const size_t bar = all.find('|', start);
    if (all.substr(start, bar == std::string::npos ? bar : bar - start) == name) return index;
    if (bar == std::string::npos) return -1;
    start = bar + 1;
  }
}

}  // namespace statespace
