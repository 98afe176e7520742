#pragma once
// An op as a caller gave it, and how it runs: halves become f32 where its kernel wants them, states begin as told.
//
// Converting a whole tensor costs more than many kernels do, so an op over tokens runs by blocks of tokens whose floats
// fit into the cache: its state goes on from one to the next, as in a forward. So do calls over very many tokens, that
// they hear of it when nobody waits for them any more.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/check_runtime.h"
#include "core/conversions.h"
#include "core/recycled.h"

namespace statespace {

template <class Op>
class EagerOp {
 public:
  // One tensor of the op. `given` is the caller's; where its type is not the kernel's, the op holds floats instead.
  struct Field {
    FieldKind kind;
    const char* name;
    Tensor given, initial;
    bool fresh = false;      // a state that begins with `initial`, or zeros
    bool converted = false;  // by this class
    bool per_token = false;
    FloatBlock floats;
  };

  Op op;
  std::vector<Field> fields;

  // After the tensors and attributes are set.
  void check() {
    Checker checker(Op::kName);
    size_t i = 0;
    each_tensor(op, [&](FieldKind, const char* name, Tensor& t, const char* shape, const std::string dtypes) {
      Field& f = fields[i++];
      f.given = t;
      const bool half = t && (t.dtype == DType::f16 || t.dtype == DType::bf16);
      f.converted = half &&
                    (" " + dtypes + " ").find(std::string(" ") + dtype_name(t.dtype) + " ") == std::string::npos &&
                    dtypes.starts_with("f32");
      if (f.converted) t.dtype = DType::f32;
      const std::string fitted = checker.tensor(f.kind, name, t, shape, dtypes.c_str());
      f.per_token = fitted.starts_with("tokens") || fitted.starts_with("rows");
      if (f.per_token) tokens_ = t[0];
      if (f.initial && f.initial.size() != t.size())
        throw Error(Code::kShape, std::string(Op::kName) + ": " + name + ": its first values have another size");
      many_products_ |= dtypes == kWeights;
      if (f.kind == FieldKind::state) state_size_ += t.size() / std::max<int64_t>(1, t[0]);
    });
    if constexpr (requires { op.check(); }) op.check();
    check_runtime(op);
  }

  // execute(op, cx) runs the kernel; on a device all at once, as everything has to be copied there.
  template <class Execute>
  void run(Context& cx, bool on_host, Execute execute) {
    prepare(cx);
    const int64_t block = on_host && divisible() ? block_tokens(cx) : tokens_;
    if (block < tokens_ && rows_alone())
      run_rows(cx, execute);
    else if (block < tokens_)
      run_blocks(cx, block, execute);
    else
      run_whole(cx, execute);
    for (Field& f : fields)
      if (f.converted && f.kind == FieldKind::state) take_back(f, f.given, cx);
  }

 private:
  static constexpr int64_t kBlockBytes = 1 << 20;  // floats of a block of tokens, for each thread
  static constexpr int64_t kRowBytes = 1 << 18;    // the same where a thread takes a block by itself
  // Values of state written between two looks at `stop`, and how many of them a token costs beside its state.
  static constexpr int64_t kLongWork = 1 << 28, kTokenWork = 1 << 14, kLeastBlock = 256;

  template <class Fn>
  void each(Fn fn) {
    size_t i = 0;
    each_tensor(op, [&](FieldKind, const char*, Tensor& t, const char*, const char*) { fn(t, fields[i]), ++i; });
  }

  // States, and all that is not of a token, as the kernel wants them.
  void prepare(const Context& cx) {
    each([&](Tensor& t, Field& f) {
      if (!t) return;
      if (f.converted && !f.per_token) {
        f.floats = FloatBlock(t.size());
        t.data = f.floats.data();
        if (!is_written(f.kind) && !f.fresh)
          convert_floats(f.given.data, f.given.dtype, t.size(), t.data, DType::f32, cx);
      }
      if (!f.fresh) return;
      if (f.initial)
        convert_floats(f.initial.data, f.initial.dtype, t.size(), t.data, DType::f32, cx);
      else
        std::fill_n(t.f32(), t.size(), 0.0f);
    });
  }

  void take_back(const Field& f, const Tensor& to, const Context& cx) {
    convert_floats(f.floats.data(), DType::f32, to.size(), to.data, to.dtype, cx);
  }

  // Whether blocks of tokens one after another are the whole: rows by themselves, or a state that goes on.
  bool divisible() {
    bool bounds = false, state = false, slots = false, rows = true;
    each([&](Tensor& t, Field& f) {
      const std::string name = f.name;
      if (f.kind == FieldKind::state) state = true;
      if (name == "slots") slots = true;
      if (f.kind == FieldKind::runtime && name == "cuSeqlens") bounds = bool(t);
      if (f.kind == FieldKind::runtime && name != "slots" && name != "cuSeqlens" && name != "positions") rows &= !t;
      if (is_written(f.kind)) rows &= f.per_token;
    });
    return tokens_ > 0 && rows && !many_products_ && (state ? bounds && slots : !bounds);
  }

  int64_t converted_bytes() {  // of a token's floats
    int64_t bytes = 0;
    each([&](Tensor& t, Field& f) { bytes += t && f.converted && f.per_token ? 4 * t.row_size() : 0; });
    return bytes;
  }

  // Whether tokens know nothing of each other, so that threads take them in any order.
  bool rows_alone() {
    bool alone = true;
    for (const Field& f : fields) alone &= f.kind != FieldKind::state && f.kind != FieldKind::runtime;
    return alone && converted_bytes() > 0;
  }

  int64_t block_tokens(const Context& cx) {
    int64_t block = tokens_;
    if (cx.stop && state_size_)
      block =
          std::min(block, std::max(kLeastBlock, kLongWork / (state_size_ + kTokenWork) / kLeastBlock * kLeastBlock));
    if (const int64_t bytes = converted_bytes()) {
      const int64_t fitting = kBlockBytes * cx.threads() / bytes;
      block = std::min(block, std::max(kLeastBlock, fitting / kLeastBlock * kLeastBlock));
    }
    return std::max<int64_t>(1, block);
  }

  template <class Execute>
  void run_whole(Context& cx, Execute execute) {
    each([&](Tensor& t, Field& f) {
      if (!f.converted || !f.per_token) return;
      f.floats = FloatBlock(t.size());
      t.data = f.floats.data();
      if (!is_written(f.kind)) convert_floats(f.given.data, f.given.dtype, t.size(), t.data, DType::f32, cx);
    });
    execute(op, cx);
    for (Field& f : fields)
      if (f.converted && is_written(f.kind)) take_back(f, f.given, cx);
  }

  // What a thread converts it multiplies as well: the floats of a block never leave its cache.
  template <class Execute>
  void run_rows(Context& cx, Execute execute) {
    struct Own {
      ThreadPool pool{1};
      Scratch scratch;
      std::vector<FloatBlock> floats;
    };
    std::vector<std::unique_ptr<Own>> owns(ThreadPool::kMaxWorkers);
    const int64_t block = std::max<int64_t>(1, kRowBytes / converted_bytes());
    cx.parallel_for((tokens_ + block - 1) / block, [&](int64_t i, int worker) {
      auto& own = owns[worker];
      if (!own) own = std::make_unique<Own>(), own->floats.resize(fields.size());
      Context alone{own->pool, own->scratch, cx.tiles, cx.exact, cx.stop};
      const int64_t first = i * block, count = std::min(block, tokens_ - first);
      Op part = op;
      auto each_row = [&](auto fn) {  // fn(tensor, field, its rows as they were given, floats)
        size_t at = 0;
        each_tensor(part, [&](FieldKind, const char*, Tensor& t, const char*, const char*) {
          Field& f = fields[at];
          FloatBlock& floats = own->floats[at++];
          if (!t || !f.per_token) return;
          fn(t, f, static_cast<char*>(f.given.data) + dtype_bytes(f.given.dtype, first * t.row_size()), floats);
        });
      };
      each_row([&](Tensor& t, const Field& f, char* given, FloatBlock& floats) {
        t.shape[0] = count, t.data = given;
        if (!f.converted) return;
        if (!floats.data()) floats = FloatBlock(block * t.row_size());
        t.data = floats.data();
        if (!is_written(f.kind)) conversions().widen(given, f.given.dtype, t.size(), floats.data());
      });
      execute(part, alone);
      each_row([&](Tensor& t, const Field& f, char* given, FloatBlock& floats) {
        if (f.converted && is_written(f.kind)) conversions().narrow(floats.data(), t.size(), f.given.dtype, given);
      });
    });
  }

  template <class Execute>
  void run_blocks(Context& cx, int64_t block, Execute execute) {
    each([&](Tensor& t, Field& f) {
      if (f.converted && f.per_token) f.floats = FloatBlock(block * t.row_size());
      (void)t;
    });
    const Op whole = op;
    std::vector<int32_t> bounds, slots, positions;
    for (int64_t first = 0; first < tokens_; first += block) {
      cx.check_stop();
      const int64_t count = std::min(block, tokens_ - first);
      op = whole;
      each([&](Tensor& t, Field& f) {
        if (f.kind == FieldKind::runtime) return bind_runtime(t, f, first, count, bounds, slots, positions);
        if (!t || !f.per_token) return;
        t.shape[0] = count;
        const int64_t at = first * t.row_size();
        char* data = static_cast<char*>(f.given.data) + dtype_bytes(f.given.dtype, at);
        if (!f.converted) {
          t.data = data;
          return;
        }
        t.data = f.floats.data();
        if (!is_written(f.kind)) convert_floats(data, f.given.dtype, t.size(), t.data, DType::f32, cx);
      });
      execute(op, cx);
      each([&](Tensor& t, Field& f) {
        if (!t || !f.converted || !f.per_token || !is_written(f.kind)) return;
        Tensor to = t;
        to.dtype = f.given.dtype;
        to.data = static_cast<char*>(f.given.data) + dtype_bytes(to.dtype, first * t.row_size());
        take_back(f, to, cx);
      });
    }
    op = whole;
  }

  // The sequences of tokens [first, first + count): their bounds there, and which states they go on from.
  void bind_runtime(Tensor& t, const Field& f, int64_t first, int64_t count, std::vector<int32_t>& bounds,
                    std::vector<int32_t>& slots, std::vector<int32_t>& positions) {
    const std::string name = f.name;
    const Tensor* all = nullptr;
    for (const Field& other : fields)
      if (std::string(other.name) == "cuSeqlens") all = &other.given;
    if (name == "positions" && t) {
      positions.assign(t.i32() + first, t.i32() + first + count);
      t.data = positions.data(), t.shape[0] = count;
    }
    if (!all || !*all) return;
    if (name == "cuSeqlens") {
      bounds.assign(1, 0);
      const int32_t* b = all->i32();
      for (int64_t s = 0; s + 1 < (*all)[0]; ++s)
        if (b[s + 1] > first && b[s] < first + count)
          bounds.push_back(int32_t(std::min<int64_t>(b[s + 1], first + count) - first));
      t.data = bounds.data(), t.shape[0] = int64_t(bounds.size());
    }
    if (name == "slots") {
      const int32_t* own = f.given ? f.given.i32() : nullptr;
      slots.clear();
      const int32_t* b = all->i32();
      for (int64_t s = 0; s + 1 < (*all)[0]; ++s)
        if (b[s + 1] > first && b[s] < first + count) slots.push_back(own ? own[s] : int32_t(s));
      t.dtype = DType::i32, t.rank = 1, t.row_stride = 1;
      t.data = slots.data(), t.shape[0] = int64_t(slots.size());
    }
  }

  int64_t tokens_ = 0, state_size_ = 0;
  bool many_products_ = false;  // beside which conversions are little, and which want all their rows at once
};

}  // namespace statespace
