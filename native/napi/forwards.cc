#include <algorithm>
#include <cstring>

#include "napi/convert.h"
#include "napi/handles.h"
#include "napi/jobs.h"
#include "napi/long_job.h"
#include "napi/memory.h"
#include "napi/models.h"

namespace statespace {
namespace {

class ForwardJob : public LongJob {
 public:
  // (sessions, tokens | rows, lengths, "none" | "last" | "all" | "whole" for each, cancel, onProgress, for each a
  // sampler or undefined, for each a mask or undefined, a Float32Array for the rows, true for an array of each
  // session's, or undefined for all in one)
  explicit ForwardJob(const Napi::CallbackInfo& info) : LongJob(info[4], info[5]) {
    const auto sessions = info[0].As<Napi::Array>();
    const auto data = info[1].As<Napi::TypedArray>();
    const auto lengths = info[2].As<Napi::Int32Array>();
    const auto modes = info[3].As<Napi::Array>();
    if (sessions.Length() == 0 || sessions.Length() != lengths.ElementLength() || sessions.Length() != modes.Length())
      throw Error(Code::kArgument, "forward: expected a length and a choice of logits for each session");
    hold(data);
    int64_t at = 0;
    for (uint32_t i = 0; i < sessions.Length(); ++i) {
      Request r;
      const Napi::Value session = sessions.Get(i);
      r.session = session_of(session);
      handles_.push_back(Handle::New(session, 1));
      if (i == 0) model_ = r.session->model;
      if (r.session->model != model_) throw Error(Code::kArgument, "forward: the sessions belong to different models");
      r.length = lengths[i];
      const int rows = find_choice("none|last|all|whole|hidden", modes.Get(i).ToString().Utf8Value());
      if (rows < 0) throw Error(Code::kArgument, "forward: logits: expected none, last, all, whole or hidden");
      r.rows = static_cast<Rows>(rows);
      if (r.length < 0) throw Error(Code::kArgument, "forward: a negative length");
      read_sampler(info, i, r);
      requests_.push_back(r);
    }
    const int64_t features = model_->program.input_features();
    const auto wanted = features ? napi_float32_array : napi_int32_array;
    if (data.TypedArrayType() != wanted)
      throw Error(Code::kArgument,
                  features ? "forward: the model reads float rows, not token ids" : "forward: expected token ids");
    const int64_t width = std::max<int64_t>(1, features);
    for (Request& r : requests_) {
      if (features)
        r.input = data.As<Napi::Float32Array>().Data() + at * features;
      else
        r.ids = data.As<Napi::Int32Array>().Data() + at;
      at += r.length;
    }
    total_ = at;
    if (at * width != int64_t(data.ElementLength()))
      throw Error(Code::kArgument, "forward: the lengths add up to " + std::to_string(at * width) +
                                       " values, received " + std::to_string(data.ElementLength()));
    output_.apart = info[8].IsBoolean() && info[8].As<Napi::Boolean>();
    if (!info[8].IsTypedArray()) return;
    if (info[8].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
      throw Error(Code::kDType, "forward: out: expected f32");
    const auto out = info[8].As<Napi::Float32Array>();
    hold(out);
    // Also of one that is empty, or was detached: it is refused where rows are asked for.
    static float nothing;
    output_.data = out.ElementLength() ? const_cast<float*>(out.Data()) : &nothing;
    output_.values = int64_t(out.ElementLength());
  }
  bool advance() override {
    if (!forward_) forward_ = std::make_unique<Forward>(model_, std::move(requests_), output_);
    const bool more = forward_->advance([this] { return stopped(); }, stop(), ended());
    report(forward_->done());
    if (!more) rows_ = forward_->take_rows();
    return more;
  }
  int64_t left() const override { return forward_ ? forward_->left() : total_; }
  Napi::Value result(Napi::Env env) override {
    for (const Handle& handle : handles_)  // their caches may have grown
      if (HeldSession& s = *handle.Value().As<Napi::External<HeldSession>>().Data(); s.ref)
        s.tell(env, s.ref->own_bytes());
    if (!sampled_) return rows_to_js(env);
    const std::vector<Chosen>& chosen = forward_->chosen();
    auto tokens = Napi::Int32Array::New(env, chosen.size());
    auto logprobs = Napi::Float32Array::New(env, chosen.size());
    auto alternatives = Napi::Array::New(env, chosen.size());
    for (uint32_t i = 0; i < chosen.size(); ++i) {
      tokens[i] = chosen[i].token, logprobs[i] = chosen[i].logprob;
      if (!chosen[i].alternatives.empty()) alternatives.Set(i, pairs_to_js(env, chosen[i].alternatives));
    }
    Napi::Object out = Napi::Object::New(env);
    out.Set("rows", rows_to_js(env));
    out.Set("tokens", tokens);
    out.Set("logprobs", logprobs);
    out.Set("alternatives", alternatives);
    return out;
  }

 private:
  void read_sampler(const Napi::CallbackInfo& info, uint32_t i, Request& r) {
    if (!info[6].IsArray()) return;
    sampled_ = true;
    const Napi::Value sampler = info[6].As<Napi::Array>().Get(i);
    if (!sampler.IsExternal()) return;
    r.sampler = sampler_of(sampler);
    const Napi::Value mask = info[7].IsArray() ? info[7].As<Napi::Array>().Get(i) : info.Env().Undefined();
    if (!mask.IsTypedArray()) return;
    const auto bits = mask.As<Napi::TypedArray>();
    if (int64_t(bits.ByteLength()) < (r.sampler->options().vocab + 31) / 32 * 4 || bits.ElementSize() != 4)
      throw Error(Code::kArgument, "sample: mask: expected 32-bit words with a bit for each id below " +
                                       std::to_string(r.sampler->options().vocab));
    hold(mask);
    r.mask = reinterpret_cast<const uint32_t*>(static_cast<const char*>(bits.ArrayBuffer().Data()) + bits.ByteOffset());
  }
  Napi::Value rows_to_js(Napi::Env env) {
    if (!output_.apart) return to_js(env, rows_.empty() ? FloatBlock() : std::move(rows_[0]));
    Napi::Array all = Napi::Array::New(env, rows_.size());
    for (uint32_t i = 0; i < rows_.size(); ++i) all.Set(i, to_js(env, std::move(rows_[i])));
    return all;
  }
  static Napi::Value pairs_to_js(Napi::Env env, const std::vector<std::pair<int32_t, float>>& pairs) {
    Napi::Array list = Napi::Array::New(env, pairs.size());
    for (uint32_t i = 0; i < pairs.size(); ++i) {
      Napi::Object one = Napi::Object::New(env);
      one.Set("token", pairs[i].first);
      one.Set("logprob", double(pairs[i].second));
      list.Set(i, one);
    }
    return list;
  }

  ModelRef model_;
  bool sampled_ = false;
  std::vector<Request> requests_;
  std::vector<Handle> handles_;
  int64_t total_ = 0;
  std::unique_ptr<Forward> forward_;
  std::vector<FloatBlock> rows_;
  Forward::Output output_;
};

Napi::Value forward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<ForwardJob>(info));
  });
}

// The options by the names of SamplerOptions in camel case, all given; bias as ids and values.
Napi::Value create_sampler(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto o = info[0].As<Napi::Object>();
    const auto number = [&](const char* key) { return o.Get(key).As<Napi::Number>().DoubleValue(); };
    SamplerOptions s;
    s.vocab = int64_t(number("vocab"));
    s.temperature = number("temperature");
    s.top_k = int64_t(number("topK"));
    s.top_p = number("topP"), s.min_p = number("minP"), s.typical_p = number("typicalP");
    s.repetition_penalty = number("repetitionPenalty");
    s.frequency_penalty = number("frequencyPenalty"), s.presence_penalty = number("presencePenalty");
    s.penalty_last_n = int64_t(number("penaltyLastN"));
    s.min_tokens = int64_t(number("minTokens"));
    s.alternatives = int64_t(number("logprobs"));
    s.seed = uint64_t(number("seed"));
    const auto ids = o.Get("biasIds").As<Napi::Int32Array>(), stops = o.Get("stopIds").As<Napi::Int32Array>();
    const auto values = o.Get("biasValues").As<Napi::Float32Array>();
    for (size_t i = 0; i < ids.ElementLength(); ++i) s.bias.emplace_back(ids[i], values[i]);
    s.stop_ids.assign(stops.Data(), stops.Data() + stops.ElementLength());
    return make_handle<SamplerRef>(info.Env(), std::make_shared<Sampler>(std::move(s)), kSamplerTag, 0);
  });
}

// (sampler, session, row): the next token of a row that JavaScript has changed.
Napi::Value sample_row(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto row = info[2].As<Napi::Float32Array>();
    const Chosen chosen = sampler_of(info[0])->choose(row.Data(), int64_t(row.ElementLength()),
                                                      idle_session(info[1])->history(), nullptr, 0, nullptr);
    return Napi::Value(Napi::Number::New(info.Env(), chosen.token));
  });
}

}  // namespace

void export_forwards(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("forward", forward);
  set("createSampler", create_sampler);
  set("sampleRow", sample_row);
}

}  // namespace statespace
