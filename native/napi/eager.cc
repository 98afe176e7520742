#include "napi/eager.h"

#include <mutex>
#include <vector>

#include "backend/backend.h"
#include "core/catalog.h"
#include "core/check_runtime.h"
#include "core/denormals.h"
#include "napi/convert.h"
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

// Reads an op's fields from {name: tensor} and {name: value}; unknown names are an error.
template <class Op>
Op read_op(const Napi::Object& tensors, const Napi::Object& attrs) {
  Op op;
  uint32_t known_tensors = 0, known_attrs = 0;
  const std::string prefix = std::string(Op::kName) + ": ";
  each_tensor(op, [&](FieldKind, const char* name, Tensor& t, const char*, const char*) {
    const Napi::Value v = tensors.Get(name);
    if (tensors.Has(name)) ++known_tensors;
    if (!v.IsUndefined() && !v.IsNull()) t = read_tensor(prefix + name, v);
  });
  each_attr(op, [&](const char* name, auto& value, const std::string choices) {
    if (!attrs.Has(name)) return;
    ++known_attrs;
    const Napi::Value v = attrs.Get(name);
    using T = std::remove_reference_t<decltype(value)>;
    if constexpr (std::is_same_v<T, bool>) {
      if (!v.IsBoolean()) throw Error(Code::kArgument, prefix + name + ": expected a boolean");
      value = v.As<Napi::Boolean>();
    } else if constexpr (std::is_same_v<T, int32_t>) {
      const std::string wanted = v.IsString() ? v.As<Napi::String>().Utf8Value() : "";
      const int index = find_choice(choices.c_str(), wanted);
      if (index < 0) throw Error(Code::kArgument, prefix + name + ": expected one of " + choices);
      value = index;
    } else {
      if (!v.IsNumber()) throw Error(Code::kArgument, prefix + name + ": expected a number");
      const double number = v.As<Napi::Number>().DoubleValue();
      if (std::is_same_v<T, int64_t> && !(number >= -0x1p53 && number <= 0x1p53 && number == double(int64_t(number))))
        throw Error(Code::kArgument, prefix + name + ": expected an integer");
      value = T(number);
    }
  });
  if (tensors.GetPropertyNames().Length() != known_tensors || attrs.GetPropertyNames().Length() != known_attrs)
    throw Error(Code::kArgument, prefix + "unknown argument");
  return op;
}

// Runs one checked op on host tensors: in place on the CPU, through copies on a device.
template <class Op>
void run_on(const Backend& backend, Op op) {
  auto scratch = ScratchPool::get().take();
  Context cx{ThreadPool::global(), *scratch};
  if (backend.host_memory) {
    backend.run[op_id<Op>()](&op, cx);
    ScratchPool::get().give(std::move(scratch));
    return;
  }
  const auto device_lock = lock_device(backend);
  struct Copy {
    const Backend& backend;
    void* host;
    void* device;
    int64_t bytes;
    bool back;
  };
  struct Copies : std::vector<Copy> {
    ~Copies() {
      for (auto& c : *this) c.backend.free(c.device);
    }
  } copies;
  each_tensor(op, [&](FieldKind kind, const char* name, Tensor& t, const char*, const char*) {
    if (!t) return;
    void* device = backend.alloc(t.bytes());
    if (!device)
      throw Error(Code::kOutOfMemory, std::string(Op::kName) + ": " + name + ": no device memory for " +
                                          std::to_string(t.bytes()) + " bytes");
    copies.push_back({backend, t.data, device, t.bytes(), is_written(kind) || kind == FieldKind::state});
    if (!is_written(kind)) backend.upload(device, t.data, t.bytes());
    t.data = device;
  });
  backend.run[op_id<Op>()](&op, cx);
  if (const char* failure = backend.finish()) throw Error(Code::kDevice, std::string(Op::kName) + ": " + failure);
  for (auto& c : copies)
    if (c.back) backend.download(c.host, c.device, c.bytes);
}

template <class Op>
class OpJob : public Job {
 public:
  OpJob(const Backend& backend, const Op& op) : backend_(backend), op_(op) {}
  void execute() override { run_on(backend_, op_); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  const Backend& backend_;
  const Op op_;
};

// (name, tensors, attributes, sync, on the CPU whatever the backend)
Napi::Value run_op(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::string name = info[0].As<Napi::String>().Utf8Value();
    const Napi::Object tensors = info[1].As<Napi::Object>(), attrs = info[2].As<Napi::Object>();
    const bool sync = info[3].ToBoolean();
    const int id = find_op(name);
    if (id < 0) throw Error(Code::kArgument, "unknown op '" + name + "'");
    Napi::Value result = env.Undefined();
    with_op(id, [&]<class Op>() {
      Op op = read_op<Op>(tensors, attrs);
      check(op);
      check_runtime(op);
      const Backend& backend = info[4].ToBoolean() ? model_backend("cpu") : default_backend();
      if (sync) {
        const DenormalGuard guard;
        run_on(backend, op);
        return;
      }
      auto job = std::make_unique<OpJob<Op>>(backend, op);
      each_tensor(op, [&](FieldKind, const char* field, Tensor& t, const char*, const char*) {
        if (t) job->hold(tensors.Get(field).As<Napi::Object>().Get("data"));
      });
      result = Jobs::of(env).start(env, std::move(job));
    });
    return result;
  });
}

Napi::Value describe_ops(const Napi::CallbackInfo& info) { return Napi::String::New(info.Env(), catalog_json()); }

}  // namespace

void export_eager(Napi::Env env, Napi::Object exports) {
  exports.Set("runOp", Napi::Function::New(env, run_op, "runOp"));
  exports.Set("describeOps", Napi::Function::New(env, describe_ops, "describeOps"));
}

}  // namespace statespace
