#include "napi/eager.h"

#include <mutex>
#include <vector>

#include "backend/backend.h"
#include "core/catalog.h"
#include "core/denormals.h"
#include "core/watched_call.h"
#include "napi/backing_store.h"
#include "napi/convert.h"
#include "napi/eager_op.h"
#include "napi/jobs.h"

namespace statespace {
namespace {

// Scratch memory outlives a call, so that a loop of small ops allocates nothing; one for each concurrent caller.
class ScratchPool {
 public:
  std::unique_ptr<Scratch> take() {
    std::lock_guard lock(mutex_);
    if (free_.empty()) return std::make_unique<Scratch>();
    auto s = std::move(free_.back());
    free_.pop_back();
    return s;
  }
  void give(std::unique_ptr<Scratch> s) {
    // A single huge call must not hold its scratch for ever.
    if (s->bytes() > kKeep) return;
    std::lock_guard lock(mutex_);
    free_.push_back(std::move(s));
  }
  static ScratchPool& get() {
    static auto* pool = new ScratchPool;
    return *pool;
  }

 private:
  static constexpr int64_t kKeep = 64 << 20;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Scratch>> free_;
};

void read_tensor_of(const std::string& op, const Napi::Value& given, EagerOp::Field& field) {
  if (given.IsUndefined() || given.IsNull()) return;
  *field.tensor = read_tensor(op + field.name, given);
  if (field.kind != FieldKind::state) return;
  const Napi::Value initial = given.As<Napi::Object>().Get("initial");
  field.fresh = !initial.IsUndefined();
  if (initial.IsObject()) field.initial = read_tensor(op + field.name, initial);
}

// What a JavaScript value says about an attribute.
struct AttrReader {
  const std::string what;
  const char* choices;
  const Napi::Value given;

  void operator()(bool* value) const {
    if (!given.IsBoolean()) throw Error(Code::kArgument, what + ": expected a boolean");
    *value = given.As<Napi::Boolean>();
  }
  void operator()(int32_t* value) const {
    const int index = find_choice(choices, given.IsString() ? given.As<Napi::String>().Utf8Value() : "");
    if (index < 0) throw Error(Code::kArgument, what + ": expected one of " + choices);
    *value = index;
  }
  void operator()(int64_t* value) const {
    const double n = number();
    if (!(n >= -0x1p53 && n <= 0x1p53 && n == double(int64_t(n))))
      throw Error(Code::kArgument, what + ": expected an integer");
    *value = int64_t(n);
  }
  void operator()(float* value) const { *value = float(number()); }
  double number() const {
    if (!given.IsNumber()) throw Error(Code::kArgument, what + ": expected a number");
    return given.As<Napi::Number>().DoubleValue();
  }
};

// Compute threads that have gone to sleep take as long to come (45 us of a virtual machine's) as the other arguments
// and checks: the first tensor of a size that is worth them wakes them.
constexpr int64_t kWorthThreads = 1 << 18;  // bytes
void wake_threads() {
  ThreadPool::global().parallel_for(2, [](int64_t, int) {});
}

// Reads an op's fields from {name: tensor} and {name: value}; unknown names are an error. A state may say what it
// begins with: `initial`, a tensor, or null for zeros.
void read_op(EagerOp& op, const Napi::Object& tensors, const Napi::Object& attrs, bool runs_now) {
  uint32_t known_tensors = 0, known_attrs = 0;
  const std::string prefix = std::string(op.name) + ": ";
  for (EagerOp::Field& field : op.fields) {
    if (tensors.Has(field.name)) ++known_tensors;
    read_tensor_of(prefix, tensors.Get(field.name), field);
    if (runs_now && field.tensor->bytes() >= kWorthThreads) wake_threads(), runs_now = false;
  }
  for (const OpAttr& attr : op.attrs()) {
    if (!attrs.Has(attr.name)) continue;
    ++known_attrs;
    std::visit(AttrReader{prefix + attr.name, attr.choices, attrs.Get(attr.name)}, attr.value);
  }
  if (tensors.GetPropertyNames().Length() != known_tensors || attrs.GetPropertyNames().Length() != known_attrs)
    throw Error(Code::kArgument, prefix + "unknown argument");
}

void run_on_device(const Backend& backend, EagerOp& op, Context& cx) {
  const auto device_lock = lock_device(backend);
  struct Copy {
    Tensor* tensor;
    void* host;
    void* device;
    bool back;
  };
  struct Copies : std::vector<Copy> {
    explicit Copies(const Backend& b) : backend(b) {}
    ~Copies() {
      for (auto& c : *this) {
        backend.free(c.device);
        c.tensor->data = c.host;
      }
    }
    const Backend& backend;
  } copies(backend);
  for (const EagerOp::Field& field : op.fields) {
    Tensor& t = *field.tensor;
    if (!t) continue;
    void* device = backend.alloc(t.bytes());
    if (!device)
      throw Error(Code::kOutOfMemory, std::string(op.name) + ": " + field.name + ": no device memory for " +
                                          std::to_string(t.bytes()) + " bytes");
    copies.push_back({&t, t.data, device, is_written(field.kind) || field.kind == FieldKind::state});
    if (!is_written(field.kind)) backend.upload(device, t.data, t.bytes());
    t.data = device;
  }
  backend.run[op.id](op.op(), cx);
  if (const char* failure = backend.finish()) throw Error(Code::kDevice, std::string(op.name) + ": " + failure);
  for (auto& c : copies)
    if (c.back) backend.download(c.host, c.device, c.tensor->bytes());
}

// Runs one checked op on host tensors: in place on the CPU, through copies on a device.
void run_on(const Backend& backend, EagerOp& op, const std::atomic<bool>* stop = nullptr) {
  auto scratch = ScratchPool::get().take();
  Context cx{ThreadPool::global(), *scratch};
  cx.stop = stop;
  op.run(cx, backend.host_memory, [&](void* kernel_op, Context& cx) {
    if (backend.host_memory)
      backend.run[op.id](kernel_op, cx);
    else
      run_on_device(backend, op, cx);
  });
  ScratchPool::get().give(std::move(scratch));
}

// Whether the environment of this call is about to end: Node-API then refuses what might run JavaScript.
bool is_ending(const void* env) {
  const Napi::Value nothing = static_cast<const Napi::Env*>(env)->Undefined();
  bool equal;
  return napi_strict_equals(*static_cast<const Napi::Env*>(env), nothing, nothing, &equal) != napi_ok;
}

class OpJob : public Job {
 public:
  OpJob(const Backend& backend, std::unique_ptr<EagerOp> op) : backend_(backend), op_(std::move(op)) {}
  void execute() override { run_on(backend_, *op_, stop()); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }
  const EagerOp& op() { return *op_; }

 private:
  const Backend& backend_;
  std::unique_ptr<EagerOp> op_;
};

// (name, tensors, attributes, sync, on the CPU whatever the backend, flag that ends it)
Napi::Value run_op(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::string name = info[0].As<Napi::String>().Utf8Value();
    const Napi::Object tensors = info[1].As<Napi::Object>(), attrs = info[2].As<Napi::Object>();
    const bool sync = info[3].ToBoolean();
    const int id = find_op(name);
    if (id < 0) throw Error(Code::kArgument, "unknown op '" + name + "'");
    std::unique_ptr<EagerOp> op;
    with_op(id, [&]<class Op>() { op = std::make_unique<EagerOpOf<Op>>(id); });
    read_op(*op, tensors, attrs, sync);
    const Backend& backend = info[4].ToBoolean() ? model_backend("cpu") : default_backend();
    op->check(backend.host_memory);
    if (sync) {
      const DenormalGuard guard;
      WatchedCall call(is_ending, &env);
      try {
        run_on(backend, *op, call.stop());
        Jobs::of(env).waiting->tell(env);
      } catch (const Error& e) {
        if (e.code != Code::kAborted) throw;  // nothing can be thrown where no JavaScript runs any more
      }
      return env.Undefined();
    }
    auto job = std::make_unique<OpJob>(backend, std::move(op));
    for (const EagerOp::Field& field : job->op().fields) {
      if (!*field.tensor) continue;
      const Napi::Object given = tensors.Get(field.name).As<Napi::Object>();
      job->hold(given.Get("data"));
      if (const Napi::Value initial = given.Get("initial"); initial.IsObject())
        job->hold(initial.As<Napi::Object>().Get("data"));
    }
    if (info[5].IsTypedArray()) job->stop_at(info[5].As<Napi::Int32Array>());
    return Jobs::of(env).start(env, std::move(job));
  });
}

// (outs, others) The first out whose memory overlaps another's, or one of the others', as [i, j] with j past the outs
// for the others; undefined where none does. By address: two SharedArrayBuffers may be one memory.
Napi::Value overlap(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::vector<std::pair<const char*, const char*>> ranges;
  const auto add = [&](const Napi::Array& arrays) {
    for (uint32_t i = 0; i < arrays.Length(); ++i) {
      const Napi::Value v = arrays.Get(i);
      void* data = nullptr;
      size_t bytes = 0;
      if (v.IsTypedArray()) {
        napi_get_typedarray_info(env, v, nullptr, nullptr, &data, nullptr, nullptr);
        bytes = v.As<Napi::TypedArray>().ByteLength();
      }
      ranges.emplace_back(static_cast<const char*>(data), static_cast<const char*>(data) + bytes);
    }
  };
  const auto outs = info[0].As<Napi::Array>();
  add(outs);
  add(info[1].As<Napi::Array>());
  for (uint32_t i = 0; i < outs.Length(); ++i)
    for (uint32_t j = i + 1; j < ranges.size(); ++j)
      if (ranges[i].first < ranges[j].second && ranges[j].first < ranges[i].second) {
        Napi::Array pair = Napi::Array::New(env, 2);
        pair.Set(0u, i), pair.Set(1u, j);
        return pair;
      }
  return env.Undefined();
}

// (data, dtype, to, dtype, sync): values of one float type as another, or of any type as they are, in `to`.
class ConvertJob : public Job {
 public:
  explicit ConvertJob(const Napi::CallbackInfo& info)
      : from_type_(read_dtype(info[1].ToString().Utf8Value())), to_type_(read_dtype(info[3].ToString().Utf8Value())) {
    const auto from = info[0].As<Napi::TypedArray>(), to = info[2].As<Napi::TypedArray>();
    if (from_type_ != to_type_) {
      for (const DType t : {from_type_, to_type_})
        if (t != DType::f32 && t != DType::f16 && t != DType::bf16)
          throw Error(Code::kDType, "convert: expected f32, f16 or bf16");
      if (from_type_ != DType::f32 && to_type_ != DType::f32)
        throw Error(Code::kDType, "convert: one side has to be f32");
    }
    const int64_t block = dtype_block(from_type_);
    count_ = int64_t(from.ByteLength()) / dtype_bytes(from_type_, block) * block;
    if (dtype_bytes(to_type_, count_) > int64_t(to.ByteLength()))
      throw Error(Code::kShape, "convert: the values do not fit");
    napi_get_typedarray_info(info.Env(), from, nullptr, nullptr, &from_, nullptr, nullptr);
    napi_get_typedarray_info(info.Env(), to, nullptr, nullptr, &to_, nullptr, nullptr);
    hold(from), hold(to);
  }
  void execute() override {
    Scratch none;
    Context cx{ThreadPool::global(), none};
    cx.stop = stop();
    convert_floats(from_, from_type_, count_, to_, to_type_, cx);
  }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  DType from_type_, to_type_;
  int64_t count_;
  void *from_ = nullptr, *to_ = nullptr;
};

Napi::Value convert_values(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto job = std::make_unique<ConvertJob>(info);
    if (!info[4].ToBoolean()) return Jobs::of(info.Env()).start(info.Env(), std::move(job));
    const DenormalGuard guard;
    job->execute();
    return info.Env().Undefined();
  });
}

Napi::Value describe_ops(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), catalog_json()); }

}  // namespace

void export_eager(Napi::Env env, Napi::Object exports) {
  exports.Set("runOp", Napi::Function::New(env, run_op, "runOp"));
  exports.Set("overlap", Napi::Function::New(env, overlap, "overlap"));
  exports.Set("convert", Napi::Function::New(env, convert_values, "convert"));
  exports.Set("describeOps", Napi::Function::New(env, describe_ops, "describeOps"));
}

}  // namespace statespace
