#pragma once
// An op as a caller gave it, and how it runs: halves become f32 where its kernel wants them, states begin as told.
//
// Converting a whole tensor costs more than many kernels do, so an op over tokens runs by blocks of tokens whose floats
// fit into the cache: its state goes on from one to the next, as in a forward.
#include <functional>
#include <optional>
#include <vector>

#include "core/context.h"
#include "core/conversions.h"
#include "core/op_fields.h"
#include "core/recycled.h"

namespace statespace {

// Written once for all ops, over the list of an op's fields: as a template it was a third of the addon and of its
// build.
class EagerOp {
 public:
  // One tensor of the op. `given` is the caller's; where its type is not the kernel's, the op holds floats instead.
  struct Field : OpTensor {
    explicit Field(const OpTensor& of) : OpTensor(of) {}
    Tensor given, initial;
    bool fresh = false;      // a state that begins with `initial`, or zeros
    bool converted = false;  // by this class
    bool per_token = false;
    FloatBlock floats;
  };

  virtual ~EagerOp() = default;
  EagerOp(const EagerOp&) = delete;
  EagerOp& operator=(const EagerOp&) = delete;

  const char* const name;
  const int id;
  std::vector<Field> fields;
  const std::vector<OpAttr>& attrs() const { return lists_->attrs; }
  virtual void* op() = 0;

  // After the tensors and attributes are set.
  void check(bool on_host);
  // Runs the kernel on op(), or on a copy with some of its rows; on a device all at once, as everything has to be
  // copied there.
  using Execute = std::function<void(void* op, Context& cx)>;
  void run(Context& cx, bool on_host, const Execute& execute);

 protected:
  EagerOp(const char* op_name, int op_id) : name(op_name), id(op_id) {}
  void list(OpFields lists);
  virtual OpFields lists() = 0;
  virtual void check_itself() = 0;
  virtual size_t size() const = 0;  // of the op

 private:
  void prepare(const Context& cx);
  bool divisible() const;
  bool rows_alone() const;
  int64_t converted_bytes() const;
  int64_t block_tokens(const Context& cx) const;
  void run_whole(Context& cx, const Execute& execute);
  void run_rows(Context& cx, const Execute& execute);
  void run_blocks(Context& cx, int64_t block, const Execute& execute);
  struct Sequences;
  void bind_runtime(const Field& f, int64_t first, int64_t count, Sequences& sequences) const;

  std::optional<OpFields> lists_;
  int64_t tokens_ = 0;
  bool many_products_ = false;  // beside which conversions are little, and which want all their rows at once
};

template <class Op>
class EagerOpOf final : public EagerOp {
 public:
  explicit EagerOpOf(int op_id) : EagerOp(Op::kName, op_id) { list(lists()); }
  void* op() override { return &op_; }

 private:
  OpFields lists() override { return OpFields(op_); }
  void check_itself() override {
    if constexpr (requires { op_.check(); }) op_.check();
  }
  size_t size() const override { return sizeof(Op); }
  static_assert(std::is_trivially_copyable_v<Op>);
  Op op_;
};

}  // namespace statespace
