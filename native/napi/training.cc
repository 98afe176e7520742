#include "napi/training.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "napi/convert.h"
#include "napi/handles.h"
#include "napi/jobs.h"
#include "napi/long_job.h"
#include "program/trainer.h"

namespace statespace {
namespace {

using TrainerRef = std::shared_ptr<Trainer>;

constexpr napi_type_tag kTrainerTag = {0x7374617465737061, 0x747261696e657201};

TrainerRef& trainer_of(const Napi::Value& v) { return held<TrainerRef>(v, kTrainerTag, "trainer").ref; }

int32_t integer(const Napi::Object& o, const char* key) { return o.Get(key).As<Napi::Number>().Int32Value(); }
int64_t large(const Napi::Object& o, const char* key) { return o.Get(key).As<Napi::Number>().Int64Value(); }
double number(const Napi::Object& o, const char* key) { return o.Get(key).As<Napi::Number>().DoubleValue(); }

template <class T, class Fn>
std::vector<T> list(const Napi::Array& array, Fn read) {
  std::vector<T> out;
  for (uint32_t i = 0; i < array.Length(); ++i) out.push_back(read(array.Get(i)));
  return out;
}
template <class T, class Fn>
std::vector<T> list(const Napi::Object& o, const char* key, Fn read) {
  if (!o.Has(key)) return {};
  return list<T>(o.Get(key).As<Napi::Array>(), read);
}

TrainerLayout read_layout(const Napi::Object& o) {
  TrainerLayout layout;
  layout.parameters = list<TrainerLayout::Parameter>(o, "parameters", [](const Napi::Value& v) {
    const auto p = v.As<Napi::Object>();
    return TrainerLayout::Parameter{large(p, "count"), p.Get("decayed").ToBoolean(), p.Get("trained").ToBoolean()};
  });
  const int32_t parameters = int32_t(layout.parameters.size());
  auto parameter = [parameters](const Napi::Object& v, const char* key) {
    const int32_t i = integer(v, key);
    if (i < 0 || i >= parameters) throw Error(Code::kArgument, "trainer: no such parameter");
    return i;
  };
  layout.weights = list<TrainerLayout::Weight>(o, "weights", [&](const Napi::Value& v) {
    const auto w = v.As<Napi::Object>();
    TrainerLayout::Weight weight{integer(w, "value"), TrainerLayout::Map::copy, {}, {}, {}, {}, {}, {}};
    const int map = find_choice("copy|negativeExp|gather|constant|terms", read_string(w, "map"));
    if (map < 0) throw Error(Code::kArgument, "trainer: no such map");
    weight.map = TrainerLayout::Map(map);
    weight.parts = list<TrainerLayout::Part>(w, "parts", [&](const Napi::Value& v) {
      const auto p = v.As<Napi::Object>();
      return TrainerLayout::Part{parameter(p, "parameter"), large(p, "first"), large(p, "count")};
    });
    const auto integers = [&](const char* key, std::vector<int32_t>& to) {
      if (!w.Has(key)) return;
      const auto values = w.Get(key).As<Napi::Int32Array>();
      to.assign(values.Data(), values.Data() + values.ElementLength());
    };
    integers("starts", weight.starts);
    integers("index", weight.index);
    const auto floats = [&](const char* key, std::vector<float>& to) {
      if (!w.Has(key)) return;
      const auto values = w.Get(key).As<Napi::Float32Array>();
      to.assign(values.Data(), values.Data() + values.ElementLength());
    };
    floats("factors", weight.factors);
    floats("constants", weight.constants);
    weight.gradients = list<int32_t>(w, "gradients", [](const Napi::Value& v) { return v.ToNumber().Int32Value(); });
    return weight;
  });
  layout.adapters = list<TrainerLayout::Adapter>(o, "adapters", [&](const Napi::Value& v) {
    const auto a = v.As<Napi::Object>();
    TrainerLayout::Adapter adapter{parameter(a, "base"), parameter(a, "a"), parameter(a, "b"),        large(a, "rows"),
                                   large(a, "columns"),  large(a, "rank"),  float(number(a, "scale"))};
    const auto& p = layout.parameters;
    if (p[adapter.base].count != adapter.rows * adapter.columns ||
        p[adapter.a].count != adapter.rank * adapter.columns || p[adapter.b].count != adapter.rows * adapter.rank)
      throw Error(Code::kShape, "trainer: an adapter of another shape than its matrix");
    return adapter;
  });
  layout.loss = integer(o, "loss");
  layout.divisor = integer(o, "divisor");
  layout.dloss = integer(o, "dloss");
  layout.by_sequence = o.Get("bySequence").ToBoolean();
  layout.target_width = large(o, "targetWidth");
  return layout;
}

// Off the event loop: all of its memory is written once.
class BuildJob : public Job {
 public:
  // (training graph, evaluation graph, layout)
  explicit BuildJob(const Napi::CallbackInfo& info)
      : training_(bytes_of(info[0])),
        evaluation_(bytes_of(info[1])),
        layout_(read_layout(info[2].As<Napi::Object>())) {}
  void execute() override {
    trainer_ =
        std::make_shared<Trainer>(model_backend("cpu"), graph_of(training_), graph_of(evaluation_), std::move(layout_));
  }
  Napi::Value result(Napi::Env env) override {
    return make_handle<TrainerRef>(env, std::move(trainer_), kTrainerTag, 0);
  }

 private:
  static std::vector<uint8_t> bytes_of(const Napi::Value& v) {
    const auto bytes = v.As<Napi::Uint8Array>();
    return {bytes.Data(), bytes.Data() + bytes.ByteLength()};
  }
  static Graph graph_of(const std::vector<uint8_t>& bytes) { return decode_graph(bytes.data(), int64_t(bytes.size())); }
  std::vector<uint8_t> training_, evaluation_;
  TrainerLayout layout_;
  TrainerRef trainer_;
};

struct Values {
  int32_t parameter;
  Trainer::Which which;
  float* data;
};

// Copies values out of a trainer or into it.
class CopyJob : public Job {
 public:
  // (trainer, [{parameter, which, data}])
  CopyJob(const Napi::CallbackInfo& info, bool in) : trainer_(trainer_of(info[0])), in_(in) {
    const auto entries = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < entries.Length(); ++i) {
      const auto e = entries.Get(i).As<Napi::Object>();
      auto data = e.Get("data").As<Napi::Float32Array>();
      hold(data);
      const int which = find_choice("value|gradient|mean|square|merged", read_string(e, "which"));
      const int32_t parameter = integer(e, "parameter");
      if (which < 0 || parameter < 0) throw Error(Code::kArgument, "trainer: no such values");
      if (int64_t(data.ElementLength()) != trainer_->count(parameter))
        throw Error(Code::kShape, "trainer: values of another number");
      values_.push_back({parameter, Trainer::Which(which), data.Data()});
    }
  }
  void execute() override {
    for (const Values& v : values_)
      if (in_)
        trainer_->write(v.which, v.parameter, v.data, stop());
      else
        trainer_->read(v.which, v.parameter, v.data, stop());
    if (in_) trainer_->refresh(stop());
  }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  TrainerRef trainer_;
  std::vector<Values> values_;
  bool in_;
};

// Parameters from where a model holds them, weight by weight: there is no copy of all in between. After it, values must
// be written or refreshed by a CopyJob.
class SeedJob : public Job {
 public:
  // (trainer, model, [{parameter, first, count, value, at}]): values [first, first + count) of a parameter lie in a
  // weight of the model from `at` on
  explicit SeedJob(const Napi::CallbackInfo& info) : trainer_(trainer_of(info[0])), model_(held_model(info[1]).ref) {
    const auto& values = model_->program.graph().values;
    uses_ = list<Use>(info[2].As<Napi::Array>(), [&](const Napi::Value& v) {
      const auto o = v.As<Napi::Object>();
      const Use use{integer(o, "parameter"), integer(o, "value"), large(o, "first"), large(o, "count"), large(o, "at")};
      const bool known = use.value >= 0 && use.value < int64_t(values.size());
      if (!known || use.at < 0 || use.count < 0 || use.count > values[use.value].size() - use.at)
        throw Error(Code::kArgument, "trainer: values outside their weight");
      return use;
    });
  }
  void execute() override {
    Buffer held;
    int32_t last = -1;
    for (const Use& u : uses_) {
      float* to = trainer_->values_of(u.parameter, u.first, u.count);
      const int64_t size = model_->program.graph().values[u.value].size();
      if (u.count == size) {
        model_->read_weight(u.value, to, stop());
        continue;
      }
      float* all = static_cast<float*>(held.reserve(size * 4));
      if (u.value != last) model_->read_weight(u.value, all, stop());
      last = u.value;
      for (int64_t i = 0; i < u.count; i += kPiece) {
        throw_if_stopped(stop());
        std::memcpy(to + i, all + u.at + i, std::min(kPiece, u.count - i) * 4);
      }
    }
  }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  static constexpr int64_t kPiece = 1 << 16;
  struct Use {
    int32_t parameter, value;
    int64_t first, count, at;
  };
  TrainerRef trainer_;
  ModelRef model_;
  std::vector<Use> uses_;
};

class TrainJob : public LongJob {
 public:
  // (trainer, parts, "evaluate" | "gradients" | "step", AdamW, cancel)
  explicit TrainJob(const Napi::CallbackInfo& info)
      : LongJob(info[4], info.Env().Undefined()), trainer_(trainer_of(info[0])) {
    const auto parts = info[1].As<Napi::Array>();
    for (uint32_t i = 0; i < parts.Length(); ++i) parts_.push_back(read_part(parts.Get(i).As<Napi::Object>()));
    mode_ = find_choice("evaluate|gradients|step", info[2].ToString().Utf8Value());
    if (mode_ < 0) throw Error(Code::kArgument, "trainer: nothing that it does");
    const auto o = info[3].As<Napi::Object>();
    adam_ = {number(o, "learningRate"), number(o, "beta1"),       number(o, "beta2"), number(o, "eps"),
             number(o, "weightDecay"),  number(o, "maxGradNorm"), large(o, "t")};
  }

  void execute() override {
    loss_ = trainer_->run(
        parts_, mode_ > 0, [this] { return stopped(); }, stop());
    if (mode_ == 0) return;
    norm_ = trainer_->gradient_norm(stop());
    if (stopped()) throw Error(Code::kAborted, "aborted");
    if (mode_ != 2 || !std::isfinite(loss_) || !std::isfinite(norm_)) return;
    trainer_->prepare_update(stop());
    trainer_->update(adam_, norm_, ended());
    updated_ = true;
  }

  Napi::Value result(Napi::Env env) override {
    Napi::Object out = Napi::Object::New(env);
    out.Set("loss", double(loss_));
    out.Set("gradNorm", norm_);
    out.Set("updated", updated_);
    return out;
  }

 private:
  TrainingPart read_part(const Napi::Object& o) {
    TrainingPart p;
    const auto targets = o.Get("targets").As<Napi::Int32Array>(), bounds = o.Get("cuSeqlens").As<Napi::Int32Array>();
    hold(targets);
    p.targets = targets.Data();
    p.targets_given = int64_t(targets.ElementLength());
    p.counted = large(o, "counted");
    p.cu_seqlens.assign(bounds.Data(), bounds.Data() + bounds.ElementLength());
    p.tokens = p.cu_seqlens.empty() ? 0 : p.cu_seqlens.back();
    bool ordered = p.cu_seqlens.size() >= 1 && p.cu_seqlens.front() == 0;
    for (size_t s = 1; s < p.cu_seqlens.size(); ++s) ordered &= p.cu_seqlens[s] >= p.cu_seqlens[s - 1];
    if (!ordered) throw Error(Code::kArgument, "trainer: cuSeqlens: not the bounds of the tokens");
    const int64_t features = trainer_->features();
    if (features > 0) {
      const auto input = o.Get("input").As<Napi::Float32Array>();
      hold(input);
      if (int64_t(input.ElementLength()) != p.tokens * features)
        throw Error(Code::kShape, "trainer: input: not the rows of the tokens");
      p.input = input.Data();
      return p;
    }
    const auto ids = o.Get("ids").As<Napi::Int32Array>();
    hold(ids);
    if (int64_t(ids.ElementLength()) != p.tokens) throw Error(Code::kShape, "trainer: ids: not those of the tokens");
    p.ids = ids.Data();
    return p;
  }

  TrainerRef trainer_;
  std::vector<TrainingPart> parts_;
  int mode_ = 0;
  AdamW adam_;
  float loss_ = 0;
  double norm_ = 0;
  bool updated_ = false;
};

template <class J, class... Args>
Napi::Value start(const Napi::CallbackInfo& info, Args... args) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<J>(info, args...));
  });
}

Napi::Value build_trainer(const Napi::CallbackInfo& info) { return start<BuildJob>(info); }
Napi::Value seed_trainer(const Napi::CallbackInfo& info) { return start<SeedJob>(info); }
Napi::Value read_trainer(const Napi::CallbackInfo& info) { return start<CopyJob>(info, false); }
Napi::Value write_trainer(const Napi::CallbackInfo& info) { return start<CopyJob>(info, true); }
Napi::Value run_trainer(const Napi::CallbackInfo& info) { return start<TrainJob>(info); }

// Gigabytes keep the system for long: not the event loop.
class DisposeJob : public Job {
 public:
  explicit DisposeJob(TrainerRef trainer) : trainer_(std::move(trainer)) {}
  void execute() override { trainer_.reset(); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  TrainerRef trainer_;
};

Napi::Value dispose_trainer(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto& held = statespace::held<TrainerRef>(info[0], kTrainerTag, "trainer");
    auto job = std::make_unique<DisposeJob>(held.ref);
    held.drop(info.Env());
    return Jobs::of(info.Env()).start(info.Env(), std::move(job));
  });
}

}  // namespace

void export_training(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("buildTrainer", build_trainer);
  set("seedTrainer", seed_trainer);
  set("readTrainer", read_trainer);
  set("writeTrainer", write_trainer);
  set("runTrainer", run_trainer);
  set("disposeTrainer", dispose_trainer);
}

}  // namespace statespace
