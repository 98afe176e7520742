#include "napi/eager_op.h"

#include <algorithm>
#include <memory>
#include <string>

#include "core/check.h"
#include "core/check_runtime.h"
#include "core/error.h"

namespace statespace {
namespace {

// Floats of a block of tokens, for each thread. Every block costs a kernel its start: against floats, gla of 2,048
// tokens by 8 heads of 64 took 1.67 times as long with 1 MiB, 1.49 with 4, 1.42 in one block.
constexpr int64_t kBlockBytes = 4 << 20;
constexpr int64_t kRowBytes = 1 << 18;  // the same where a thread takes a block by itself
constexpr int64_t kLeastBlock = 256;

void widen(const void* data, DType dtype, const Tensor& to, const Context& cx) {
  convert_floats(data, dtype, to.size(), to.data, DType::f32, cx);
}

void take_back(const EagerOp::Field& f, const Tensor& to, const Context& cx) {
  convert_floats(f.floats.data(), DType::f32, to.size(), to.data, to.dtype, cx);
}

}  // namespace

void EagerOp::list(OpFields lists) {
  for (size_t i = 0; i < lists.tensors.size(); ++i)
    if (i < fields.size())
      static_cast<OpTensor&>(fields[i]) = lists.tensors[i];
    else
      fields.emplace_back(lists.tensors[i]);
  lists_ = std::move(lists);
}

void EagerOp::check(bool on_host) {
  list(lists());  // the shapes of some depend on what others are
  const auto among = [](const std::string& types, const std::string& type) {
    return (" " + types + " ").find(" " + type + " ") != std::string::npos;
  };
  Checker checker(name);
  for (Field& f : fields) {
    Tensor& t = *f.tensor;
    f.given = t;
    const std::string types = f.dtypes, type = dtype_name(t.dtype);
    const bool half = t && (t.dtype == DType::f16 || t.dtype == DType::bf16);
    const bool read_as_it_is = among(types, type) || (on_host && among(types, "host:" + type));
    f.converted = half && !read_as_it_is && types.starts_with("f32");
    if (f.converted) t.dtype = DType::f32;
    const std::string fitted = checker.tensor(f.kind, f.name, t, f.shape, f.dtypes);
    f.per_token = fitted.starts_with("tokens") || fitted.starts_with("rows");
    if (f.per_token) tokens_ = t[0];
    if (f.initial && f.initial.size() != t.size())
      throw Error(Code::kShape, std::string(name) + ": " + f.name + ": its first values have another size");
    many_products_ |= types == kWeights;
  }
  check_itself();
  check_runtime(name, *lists_);
}

void EagerOp::run(Context& cx, bool on_host, const Execute& execute) {
  prepare(cx);
  const int64_t block = on_host && divisible() ? block_tokens(cx) : tokens_;
  if (block < tokens_ && rows_alone())
    run_rows(cx, execute);
  else if (block < tokens_)
    run_blocks(cx, block, execute);
  else
    run_whole(cx, execute);
  for (const Field& f : fields)
    if (f.converted && f.kind == FieldKind::state) take_back(f, f.given, cx);
}

// States, and all that is not of a token, as the kernel wants them.
void EagerOp::prepare(const Context& cx) {
  for (Field& f : fields) {
    Tensor& t = *f.tensor;
    if (!t) continue;
    if (f.converted && !f.per_token) {
      f.floats = FloatBlock(t.size());
      t.data = f.floats.data();
      if (!is_written(f.kind) && !f.fresh) widen(f.given.data, f.given.dtype, t, cx);
    }
    if (!f.fresh) continue;
    if (f.initial)
      widen(f.initial.data, f.initial.dtype, t, cx);
    else
      std::fill_n(t.f32(), t.size(), 0.0f);
  }
}

// Whether blocks of tokens one after another are the whole: rows by themselves, or a state that goes on.
bool EagerOp::divisible() const {
  bool bounds = false, state = false, slots = false, rows = true;
  for (const Field& f : fields) {
    const std::string field = f.name;
    if (f.kind == FieldKind::state) state = true;
    if (field == "slots") slots = true;
    if (f.kind == FieldKind::runtime && field == "cuSeqlens") bounds = bool(*f.tensor);
    if (f.kind == FieldKind::runtime && field != "slots" && field != "cuSeqlens" && field != "positions")
      rows &= !*f.tensor;
    if (is_written(f.kind)) rows &= f.per_token;
    if (f.kind == FieldKind::wanted && field == "states") rows &= !*f.tensor;  // they lie where the whole has them
  }
  return tokens_ > 0 && rows && !many_products_ && (state ? bounds && slots : !bounds);
}

int64_t EagerOp::converted_bytes() const {  // of a token's floats
  int64_t bytes = 0;
  for (const Field& f : fields) bytes += *f.tensor && f.converted && f.per_token ? 4 * f.tensor->row_size() : 0;
  return bytes;
}

// Whether tokens know nothing of each other, so that threads take them in any order.
bool EagerOp::rows_alone() const {
  bool alone = true;
  for (const Field& f : fields) alone &= f.kind != FieldKind::state && f.kind != FieldKind::runtime;
  return alone && converted_bytes() > 0;
}

int64_t EagerOp::block_tokens(const Context& cx) const {
  int64_t block = tokens_;
  if (const int64_t bytes = converted_bytes()) {
    const int64_t fitting = kBlockBytes * cx.threads() / bytes;
    block = std::min(block, std::max(kLeastBlock, fitting / kLeastBlock * kLeastBlock));
  }
  return std::max<int64_t>(1, block);
}

void EagerOp::run_whole(Context& cx, const Execute& execute) {
  for (Field& f : fields) {
    Tensor& t = *f.tensor;
    if (!f.converted || !f.per_token) continue;
    f.floats = FloatBlock(t.size());
    t.data = f.floats.data();
    if (!is_written(f.kind)) widen(f.given.data, f.given.dtype, t, cx);
  }
  execute(op(), cx);
  for (const Field& f : fields)
    if (f.converted && is_written(f.kind)) take_back(f, f.given, cx);
}

// What a thread converts it multiplies as well: the floats of a block never leave its cache.
void EagerOp::run_rows(Context& cx, const Execute& execute) {
  struct Own {
    explicit Own(size_t fields) : floats(fields) {}
    ThreadPool pool{1};
    Scratch scratch;
    std::vector<FloatBlock> floats;
    std::vector<char> op;
  };
  std::vector<std::unique_ptr<Own>> owns(ThreadPool::kMaxWorkers);
  const char* whole = static_cast<const char*>(op());
  const int64_t block = std::max<int64_t>(1, kRowBytes / converted_bytes());
  cx.parallel_for((tokens_ + block - 1) / block, [&](int64_t i, int worker) {
    auto& own = owns[worker];
    if (!own) own = std::make_unique<Own>(fields.size());
    own->op.assign(whole, whole + size());
    Context alone{own->pool, own->scratch, cx.tiles, cx.exact, cx.stop};
    const int64_t first = i * block, count = std::min(block, tokens_ - first);
    auto each_row = [&](auto fn) {  // fn(tensor, field, its rows as they were given, floats)
      for (size_t at = 0; at < fields.size(); ++at) {
        const Field& f = fields[at];
        Tensor& t = *reinterpret_cast<Tensor*>(own->op.data() + (reinterpret_cast<const char*>(f.tensor) - whole));
        if (!t || !f.per_token) continue;
        char* given = static_cast<char*>(f.given.data) + dtype_bytes(f.given.dtype, first * t.row_size());
        fn(t, f, given, own->floats[at]);
      }
    };
    each_row([&](Tensor& t, const Field& f, char* given, FloatBlock& floats) {
      t.shape[0] = count, t.data = given;
      if (!f.converted) return;
      if (!floats.data()) floats = FloatBlock(block * t.row_size());
      t.data = floats.data();
      if (!is_written(f.kind)) conversions().widen(given, f.given.dtype, t.size(), floats.data());
    });
    execute(own->op.data(), alone);
    each_row([&](Tensor& t, const Field& f, char* given, FloatBlock& floats) {
      if (f.converted && is_written(f.kind)) conversions().narrow(floats.data(), t.size(), f.given.dtype, given);
    });
  });
}

// What a block's runtime tensors point to.
struct EagerOp::Sequences {
  std::vector<int32_t> bounds, slots, positions;
};

void EagerOp::run_blocks(Context& cx, int64_t block, const Execute& execute) {
  std::vector<Tensor> whole;
  for (Field& f : fields) {
    whole.push_back(*f.tensor);
    if (f.converted && f.per_token) f.floats = FloatBlock(block * f.tensor->row_size());
  }
  Sequences sequences;
  for (int64_t first = 0; first < tokens_; first += block) {
    cx.check_stop();
    const int64_t count = std::min(block, tokens_ - first);
    const auto part = [&](const Field& f) {
      const int64_t at = first * f.tensor->row_size();
      return static_cast<char*>(f.given.data) + dtype_bytes(f.given.dtype, at);
    };
    for (size_t i = 0; i < fields.size(); ++i) {
      Field& f = fields[i];
      Tensor& t = *f.tensor;
      t = whole[i];
      if (f.kind == FieldKind::runtime) {
        bind_runtime(f, first, count, sequences);
        continue;
      }
      if (!t || !f.per_token) continue;
      t.shape[0] = count;
      t.data = f.converted ? static_cast<void*>(f.floats.data()) : part(f);
      if (f.converted && !is_written(f.kind)) widen(part(f), f.given.dtype, t, cx);
    }
    execute(op(), cx);
    for (const Field& f : fields) {
      if (!*f.tensor || !f.converted || !f.per_token || !is_written(f.kind)) continue;
      Tensor to = *f.tensor;
      to.dtype = f.given.dtype;
      to.data = part(f);
      take_back(f, to, cx);
    }
  }
  for (size_t i = 0; i < fields.size(); ++i) *fields[i].tensor = whole[i];
}

// The sequences of tokens [first, first + count): their bounds there, and which states they go on from.
void EagerOp::bind_runtime(const Field& f, int64_t first, int64_t count, Sequences& sequences) const {
  Tensor& t = *f.tensor;
  const std::string field = f.name;
  const Tensor* all = nullptr;
  for (const Field& other : fields)
    if (std::string(other.name) == "cuSeqlens") all = &other.given;
  if (field == "positions" && t) {
    sequences.positions.assign(t.i32() + first, t.i32() + first + count);
    t.data = sequences.positions.data(), t.shape[0] = count;
  }
  if (!all || !*all) return;
  const int32_t* b = all->i32();
  const auto each_within = [&](auto fn) {
    for (int64_t s = 0; s + 1 < (*all)[0]; ++s)
      if (b[s + 1] > first && b[s] < first + count) fn(s);
  };
  if (field == "cuSeqlens") {
    auto& bounds = sequences.bounds;
    bounds.assign(1, 0);
    each_within([&](int64_t s) { bounds.push_back(int32_t(std::min<int64_t>(b[s + 1], first + count) - first)); });
    t.data = bounds.data(), t.shape[0] = int64_t(bounds.size());
  }
  if (field == "slots") {
    const int32_t* own = f.given ? f.given.i32() : nullptr;
    auto& slots = sequences.slots;
    slots.clear();
    each_within([&](int64_t s) { slots.push_back(own ? own[s] : int32_t(s)); });
    t.dtype = DType::i32, t.rank = 1, t.row_stride = 1;
    t.data = slots.data(), t.shape[0] = int64_t(slots.size());
  }
}

}  // namespace statespace
