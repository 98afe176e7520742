#include "napi/initial.h"

#include "core/conversions.h"
#include "core/fields.h"
#include "core/hippo.h"
#include "core/recycled.h"
#include "napi/convert.h"
#include "napi/jobs.h"

namespace statespace {
namespace {

class InitialJob : public Job {
 public:
  explicit InitialJob(const Napi::CallbackInfo& info) {
    kind_ = find_choice("lin|inv|legs|real|hippo", info[0].ToString().Utf8Value());
    n_ = info[1].As<Napi::Number>().Int64Value();
    for (int i = 0; i < 2; ++i) {
      to_[i] = read_tensor("initialSystem", info[2 + i]);
      hold(info[2 + i].As<Napi::Object>().Get("data"));
    }
    const bool hippo = kind_ == kHippo;
    if (kind_ < 0 || n_ < 1 || n_ > 1 << 24 || (!hippo && n_ % 2) || to_[0].size() != (hippo ? n_ * n_ : n_) ||
        to_[1].size() != n_)
      throw Error(Code::kArgument, "initialSystem: sizes do not fit");
    if (info[5].IsTypedArray()) stop_at(info[5].As<Napi::Int32Array>());
  }
  void execute() override {
    FloatBlock blocks[2];
    float* at[2];
    for (int i = 0; i < 2; ++i) {
      if (to_[i].dtype != DType::f32) blocks[i] = FloatBlock(to_[i].size());
      at[i] = to_[i].dtype == DType::f32 ? to_[i].f32() : blocks[i].data();
    }
    if (kind_ == kHippo)
      hippo_legs(n_, at[0], at[1], stop());
    else
      s4d_init(static_cast<S4dInit>(kind_), n_, at[0], at[1], stop());
    Scratch none;
    const Context cx{ThreadPool::global(), none};
    for (int i = 0; i < 2; ++i)
      if (blocks[i].data()) convert_floats(at[i], DType::f32, to_[i].size(), to_[i].data, to_[i].dtype, cx);
  }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  static constexpr int kHippo = 4;
  int kind_;
  int64_t n_;
  Tensor to_[2];
};

Napi::Value initial_system(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto job = std::make_unique<InitialJob>(info);
    if (!info[4].ToBoolean()) return Jobs::of(info.Env()).start(info.Env(), std::move(job));
    job->execute();
    return info.Env().Undefined();
  });
}

}  // namespace

void export_initial(Napi::Env env, Napi::Object exports) {
  exports.Set("initialSystem", Napi::Function::New(env, initial_system, "initialSystem"));
}

}  // namespace statespace
