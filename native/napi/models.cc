#include "napi/models.h"

#include <algorithm>
#include <cstring>

#include "core/digest.h"
#include "core/memory_map.h"
#include "napi/convert.h"
#include "napi/jobs.h"
#include "napi/long_job.h"
#include "napi/memory.h"
#include "program/forward.h"

namespace statespace {
namespace {

using ModelRef = std::shared_ptr<Model>;
using SessionRef = std::shared_ptr<Session>;

constexpr napi_type_tag kModelTag = {0x7374617465737061, 0x6d6f64656c000001};
constexpr napi_type_tag kSessionTag = {0x7374617465737061, 0x73657373696f6e01};
constexpr napi_type_tag kSamplerTag = {0x7374617465737061, 0x73616d706c657201};

// What JavaScript holds: a share of a model or session, and how many bytes the garbage collector believes to be behind
// it. Without that it would see a few words, and let thousands of forgotten sessions pile up.
template <class Ref>
struct Held {
  Ref ref;
  int64_t told = 0;

  void tell(Napi::Env env, int64_t bytes) {
    if (bytes != told) Napi::MemoryManagement::AdjustExternalMemory(env, bytes - told);
    told = bytes;
  }
  void drop(Napi::Env env) {
    ref.reset();
    tell(env, 0);
  }
};
using SamplerRef = std::shared_ptr<Sampler>;
using HeldModel = Held<ModelRef>;
using HeldSession = Held<SessionRef>;

template <class Ref>
Napi::Value make_handle(Napi::Env env, Ref ref, const napi_type_tag& tag, int64_t bytes) {
  auto held = std::make_unique<Held<Ref>>(Held<Ref>{std::move(ref)});
  held->tell(env, bytes);
  auto external = Napi::External<Held<Ref>>::New(env, held.release(), [](Napi::Env env, Held<Ref>* p) {
    p->drop(env);
    delete p;
  });
  external.TypeTag(&tag);
  return external;
}

template <class Ref>
Held<Ref>& held(const Napi::Value& v, const napi_type_tag& tag, const char* what) {
  if (!v.IsExternal() || !v.As<Napi::External<Held<Ref>>>().CheckTypeTag(&tag))
    throw Error(Code::kArgument, std::string("expected a ") + what + " handle");
  Held<Ref>& held = *v.As<Napi::External<Held<Ref>>>().Data();
  if (!held.ref) throw Error(Code::kDisposed, std::string(what) + ": it has been disposed of");
  return held;
}
HeldModel& held_model(const Napi::Value& v) { return held<ModelRef>(v, kModelTag, "model"); }
HeldSession& held_session(const Napi::Value& v) { return held<SessionRef>(v, kSessionTag, "session"); }
ModelRef& model_of(const Napi::Value& v) { return held_model(v).ref; }
SessionRef& session_of(const Napi::Value& v) { return held_session(v).ref; }
SamplerRef& sampler_of(const Napi::Value& v) { return held<SamplerRef>(v, kSamplerTag, "sampler").ref; }
// A session that no job works on: what is read here would change under the reader.
SessionRef& idle_session(const Napi::Value& v) {
  SessionRef& session = session_of(v);
  if (session->in_use()) throw Error(Code::kState, "session: it is in use by a forward");
  return session;
}

Napi::Value session_handle(Napi::Env env, SessionRef session) {
  const int64_t bytes = session->own_bytes();
  return make_handle<SessionRef>(env, std::move(session), kSessionTag, bytes);
}

using Handle = Napi::Reference<Napi::Value>;

// (graph, "auto" | "cpu" | "cuda", whether products are exact)
Napi::Value build_model(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto bytes = info[0].As<Napi::Uint8Array>();
    const Backend& backend = model_backend(info[1].ToString().Utf8Value());
    auto model = std::make_shared<Model>(backend, decode_graph(bytes.Data(), int64_t(bytes.ByteLength())));
    if (info[2].ToBoolean()) model->program.compute_exactly();
    return make_handle<ModelRef>(env, std::move(model), kModelTag, 0);
  });
}

// One weight: where its values come from.
struct WeightEntry {
  struct Part {
    int file = -1;  // index into files, or -1: data
    int64_t offset = 0, count = 0;
    DType dtype = DType::f32;
    const void* data = nullptr;
    const int32_t* rows = nullptr;  // which of the rows at `offset` each of its row_count rows is; nullptr: in order
    int64_t row_count = 0;
  };
  int32_t value = -1;
  std::vector<Part> parts;
  bool random = false;
  float bound = 0;
};

class LoadJob : public LongJob {
 public:
  explicit LoadJob(const Napi::CallbackInfo& info)
      : LongJob(info[4], info[5]), model_(model_of(info[0])), handle_(Handle::New(info[0], 1)) {
    const auto files = info[1].As<Napi::Array>(), entries = info[2].As<Napi::Array>();
    seed_ = uint64_t(info[3].As<Napi::Number>().DoubleValue());
    for (uint32_t i = 0; i < files.Length(); ++i) files_.push_back(files.Get(i).ToString().Utf8Value());
    for (uint32_t i = 0; i < entries.Length(); ++i) entries_.push_back(read_entry(entries.Get(i).As<Napi::Object>()));
  }

  void execute() override {
    std::vector<std::unique_ptr<WeightFile>> files;
    for (const auto& path : files_) files.push_back(std::make_unique<WeightFile>(path));
    Buffer staged, out_of_order;
    int64_t done = 0;
    for (const WeightEntry& e : entries_) {
      if (stopped()) throw Error(Code::kAborted, "aborted");
      if (e.random) {
        model_->set_random(e.value, e.bound, seed_);
        continue;
      }
      std::vector<Model::Source> sources;
      int64_t from_files = 0;
      for (const auto& p : e.parts)
        if (p.file >= 0) from_files += dtype_bytes(p.dtype, p.count) + kAlign;
      char* room = static_cast<char*>(staged.reserve(from_files));
      for (const auto& p : e.parts) {
        const void* data = p.data;
        const int64_t bytes = dtype_bytes(p.dtype, p.count);
        if (p.file >= 0) {
          const WeightFile& file = *files.at(p.file);
          if (p.rows) {
            const int64_t span = rows_end(p) * (bytes / p.row_count);
            const char* all = static_cast<const char*>(out_of_order.reserve(span));
            read_part(file, p, span, const_cast<char*>(all));
            gather_rows(all, p, bytes, room);
          } else {
            read_part(file, p, bytes, room);
          }
          data = room;
          room += (bytes + kAlign - 1) / kAlign * kAlign;
        }
        sources.push_back({data, p.dtype, p.count});
        done += bytes;
      }
      model_->set_weight(e.value, sources);
      report(done);
    }
  }

  Napi::Value result(Napi::Env env) override {
    const auto external = handle_.Value();
    if (HeldModel& held = *external.As<Napi::External<HeldModel>>().Data(); held.ref)
      held.tell(env, model_->weight_bytes());
    return Napi::Number::New(env, double(model_->weight_bytes()));
  }

 private:
  // One past the last row that is read.
  static int64_t rows_end(const WeightEntry::Part& p) {
    int64_t end = 0;
    for (int64_t i = 0; i < p.row_count; ++i) {
      if (p.rows[i] < 0) throw Error(Code::kArgument, "weights: a negative row");
      end = std::max<int64_t>(end, int64_t(p.rows[i]) + 1);
    }
    return end;
  }
  static void gather_rows(const char* from, const WeightEntry::Part& p, int64_t bytes, char* to) {
    const int64_t row = bytes / p.row_count;
    for (int64_t i = 0; i < p.row_count; ++i) std::memcpy(to + i * row, from + p.rows[i] * row, row);
  }

  static constexpr int64_t kAlign = 64, kPiece = 4 << 20;  // bytes; one thread reads a piece at a time

  void read_part(const WeightFile& file, const WeightEntry::Part& p, int64_t bytes, char* to) {
    if (p.offset < 0 || p.offset > file.bytes() || bytes > file.bytes() - p.offset)
      throw Error(Code::kCheckpoint, files_[p.file] + ": holds " + std::to_string(file.bytes()) +
                                         " bytes, a tensor ends at " + std::to_string(p.offset + bytes));
    ThreadPool::global().parallel_for((bytes + kPiece - 1) / kPiece,
                                      [&](int64_t i, int) {
                                        file.read(p.offset + i * kPiece, std::min(kPiece, bytes - i * kPiece),
                                                  to + i * kPiece);
                                      },
                                      stop());
  }

  WeightEntry read_entry(const Napi::Object& o) {
    WeightEntry e;
    e.value = o.Get("value").As<Napi::Number>().Int32Value();
    if (o.Has("bound")) {
      e.random = true;
      e.bound = o.Get("bound").As<Napi::Number>().FloatValue();
      return e;
    }
    const auto parts = o.Get("parts").As<Napi::Array>();
    for (uint32_t i = 0; i < parts.Length(); ++i) {
      const auto part = parts.Get(i).As<Napi::Object>();
      WeightEntry::Part p;
      if (part.Has("data")) {
        const auto data = part.Get("data").As<Napi::Float32Array>();
        hold(data);
        p.data = data.Data();
        p.count = int64_t(data.ElementLength());
      } else {
        p.file = part.Get("file").As<Napi::Number>().Int32Value();
        if (p.file < 0 || p.file >= int(files_.size())) throw Error(Code::kArgument, "weights: no such file");
        p.offset = part.Get("offset").As<Napi::Number>().Int64Value();
        p.count = part.Get("count").As<Napi::Number>().Int64Value();
        if (p.count < 0 || p.count > INT64_MAX / 8) throw Error(Code::kArgument, "weights: count out of range");
        p.dtype = read_dtype(part.Get("dtype").ToString().Utf8Value());
        if (const Napi::Value rows = part.Get("rows"); rows.IsTypedArray()) {
          const auto order = rows.As<Napi::Int32Array>();
          hold(order);
          p.rows = order.Data(), p.row_count = int64_t(order.ElementLength());
          if (p.row_count == 0 || p.count % p.row_count)
            throw Error(Code::kArgument, "weights: rows that do not divide the values");
        }
      }
      e.parts.push_back(p);
    }
    return e;
  }

  ModelRef model_;
  Handle handle_;
  std::vector<std::string> files_;
  std::vector<WeightEntry> entries_;
  uint64_t seed_;
};

// loadWeights(model, files, entries, seed, cancel, onProgress)
Napi::Value load_weights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<LoadJob>(info));
  });
}

class ReadWeightJob : public Job {
 public:
  // (model, value, Float32Array of its size)
  explicit ReadWeightJob(const Napi::CallbackInfo& info)
      : model_(model_of(info[0])), value_(info[1].As<Napi::Number>().Int32Value()) {
    auto to = info[2].As<Napi::Float32Array>();
    const auto& values = model_->program.graph().values;
    if (value_ < 0 || value_ >= int64_t(values.size()) || values[value_].size() != int64_t(to.ElementLength()))
      throw Error(Code::kArgument, "weights: no value of this size");
    hold(to);
    to_ = to.Data();
  }
  void execute() override { model_->read_weight(value_, to_); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  ModelRef model_;
  int32_t value_;
  float* to_;
};

Napi::Value read_weight(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<ReadWeightJob>(info));
  });
}

// (model, key): whether another model of this process holds the same weights, which this one then reads too.
Napi::Value adopt_weights(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    HeldModel& model = held_model(info[0]);
    const bool adopted = model.ref->adopt(info[1].ToString().Utf8Value());
    if (adopted) model.tell(info.Env(), model.ref->weight_bytes());
    return Napi::Value(Napi::Boolean::New(info.Env(), adopted));
  });
}

void publish_weights(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { model_of(info[0])->publish(info[1].ToString().Utf8Value()); });
}

class ForwardJob : public LongJob {
 public:
  // (sessions, tokens | rows, lengths, "none" | "last" | "all" | "whole" for each, cancel, onProgress, for each a
  // sampler or undefined, for each a mask or undefined, a Float32Array for the rows or undefined)
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
    if (!info[8].IsTypedArray()) return;
    if (info[8].As<Napi::TypedArray>().TypedArrayType() != napi_float32_array)
      throw Error(Code::kDType, "forward: out: expected f32");
    const auto out = info[8].As<Napi::Float32Array>();
    hold(out);
    // Also of one that is empty, or was detached: it is refused where rows are asked for.
    static float nothing;
    out_ = out.ElementLength() ? const_cast<float*>(out.Data()) : &nothing;
    out_values_ = int64_t(out.ElementLength());
  }
  bool advance() override {
    if (!forward_) forward_ = std::make_unique<Forward>(model_, std::move(requests_), out_, out_values_);
    const bool more = forward_->advance([this] { return stopped(); });
    report(forward_->done());
    if (!more) rows_ = forward_->take_rows();
    return more;
  }
  int64_t left() const override { return forward_ ? forward_->left() : total_; }
  Napi::Value result(Napi::Env env) override {
    for (const Handle& handle : handles_)  // their caches may have grown
      if (HeldSession& s = *handle.Value().As<Napi::External<HeldSession>>().Data(); s.ref)
        s.tell(env, s.ref->own_bytes());
    if (!sampled_) return to_js(env, std::move(rows_));
    const std::vector<Chosen>& chosen = forward_->chosen();
    auto tokens = Napi::Int32Array::New(env, chosen.size());
    auto logprobs = Napi::Float32Array::New(env, chosen.size());
    auto alternatives = Napi::Array::New(env, chosen.size());
    for (uint32_t i = 0; i < chosen.size(); ++i) {
      tokens[i] = chosen[i].token, logprobs[i] = chosen[i].logprob;
      if (!chosen[i].alternatives.empty()) alternatives.Set(i, pairs_to_js(env, chosen[i].alternatives));
    }
    Napi::Object out = Napi::Object::New(env);
    out.Set("rows", to_js(env, std::move(rows_)));
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
  FloatBlock rows_;
  float* out_ = nullptr;
  int64_t out_values_ = 0;
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

Napi::Value create_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return session_handle(info.Env(), std::make_shared<Session>(model_of(info[0]))); });
}

Napi::Value fork_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return session_handle(info.Env(), idle_session(info[0])->fork()); });
}

Napi::Value session_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Session& s = *session_of(info[0]);
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("position", double(s.position()));
    out.Set("bytes", double(s.bytes()));
    return Napi::Value(out);
  });
}

// (session, token): part of the sequence, read by the next forward.
void set_pending(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { idle_session(info[0])->set_pending(info[1].As<Napi::Number>().Int32Value()); });
}

// (session, from): the tokens from a position on.
Napi::Value session_tokens(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto ids = idle_session(info[0])->history().since(info[1].As<Napi::Number>().Int64Value());
    auto out = Napi::Int32Array::New(info.Env(), ids.size());
    std::copy(ids.begin(), ids.end(), out.Data());
    return Napi::Value(out);
  });
}

// (session): the logits after its last token; undefined where there are none.
Napi::Value session_row(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const SessionRef& s = idle_session(info[0]);
    if (!s->last_row() || s->pending() >= 0) return info.Env().Undefined();
    auto out = Napi::Float32Array::New(info.Env(), size_t(s->last_row()->count()));
    std::copy(s->last_row()->data(), s->last_row()->data() + s->last_row()->count(), out.Data());
    return out;
  });
}

// (session, tokens, row | undefined, pending | -1): what a restored session goes on from, besides its state.
void remember(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    Session& s = *idle_session(info[0]);
    const auto ids = info[1].As<Napi::Int32Array>();
    s.set_history({ids.Data(), ids.Data() + ids.ElementLength()});
    if (info[2].IsTypedArray()) {
      const auto row = info[2].As<Napi::Float32Array>();
      s.set_last_row(row.Data(), int64_t(row.ElementLength()));
    }
    if (const int32_t token = info[3].As<Napi::Number>().Int32Value(); token >= 0) s.set_pending(token);
  });
}

// What a snapshot holds of a session natively, in order: its state, the row of logits (where asked for), the tokens.
struct Exported {
  SessionRef session;
  bool row = false;
  int64_t state_bytes() const { return session->exported_bytes(); }
  int64_t row_values() const { return row && session->last_row() ? session->last_row()->count() : 0; }
  int64_t bytes() const { return state_bytes() + 4 * (row_values() + session->history().size()); }
  void write(uint8_t* to) const {
    session->export_state(to);
    to += state_bytes();
    if (row_values()) std::memcpy(to, session->last_row()->data(), 4 * row_values());
    to += 4 * row_values();
    const auto ids = session->history().since(0);
    if (!ids.empty()) std::memcpy(to, ids.data(), 4 * ids.size());
  }
};

// (session, with the row): the sizes of what exportSession() writes.
Napi::Value export_sizes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Exported e{idle_session(info[0]), info[1].ToBoolean()};
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("position", double(e.session->position()));
    out.Set("pending", e.session->pending());
    out.Set("state", double(e.state_bytes()));
    out.Set("row", double(e.row_values()));
    out.Set("tokens", double(e.session->history().size()));
    return Napi::Value(out);
  });
}

// Writes a snapshot's parts behind `begin` of a buffer and a checksum of all before it into the last bytes.
void write_snapshot(const Exported& e, uint8_t* bytes, int64_t size, int64_t begin) {
  if (begin < 0 || size != begin + e.bytes() + kDigestBytes)
    throw Error(Code::kArgument, "export: the buffer is of another size");
  e.write(bytes + begin);
  digest(bytes, size - kDigestBytes, bytes + size - kDigestBytes);
}

class ExportJob : public Job {
 public:
  ExportJob(Exported e, Napi::Uint8Array to, int64_t begin)
      : exported_(std::move(e)), to_(to.Data()), size_(int64_t(to.ByteLength())), begin_(begin) {
    hold(to);
  }
  void execute() override { write_snapshot(exported_, to_, size_, begin_); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  const Exported exported_;
  uint8_t* const to_;
  const int64_t size_, begin_;
};

// (session, with the row, buffer, begin, synchronously). Another thread writes a fork: the session may go on at once.
Napi::Value export_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const SessionRef& session = idle_session(info[0]);
    const bool row = info[1].ToBoolean(), sync = info[4].ToBoolean();
    auto to = info[2].As<Napi::Uint8Array>();
    const int64_t begin = info[3].As<Napi::Number>().Int64Value();
    if (!sync)
      return Jobs::of(info.Env())
          .start(info.Env(), std::make_unique<ExportJob>(Exported{session->fork(), row}, to, begin));
    write_snapshot({session, row}, to.Data(), int64_t(to.ByteLength()), begin);
    return info.Env().Undefined();
  });
}

// (bytes): their checksum.
Napi::Value digest_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const auto bytes = info[0].As<Napi::Uint8Array>();
    auto out = Napi::Uint8Array::New(info.Env(), kDigestBytes);
    digest(bytes.Data(), int64_t(bytes.ByteLength()), out.Data());
    return Napi::Value(out);
  });
}

class ImportJob : public Job {
 public:
  ImportJob(SessionRef session, const Napi::Value& handle, const Napi::Uint8Array& bytes, int64_t position)
      : session_(std::move(session)),
        handle_(Handle::New(handle, 1)),
        bytes_(bytes.Data()),
        size_(int64_t(bytes.ByteLength())),
        position_(position) {
    hold(bytes);
  }
  void execute() override { session_->import_state(bytes_, size_, position_); }
  Napi::Value result(Napi::Env env) override {
    if (HeldSession& s = *handle_.Value().As<Napi::External<HeldSession>>().Data(); s.ref)
      s.tell(env, session_->own_bytes());
    return env.Undefined();
  }

 private:
  const SessionRef session_;
  Handle handle_;
  const uint8_t* const bytes_;
  const int64_t size_, position_;
};

// (session, state, position, synchronously)
Napi::Value import_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto bytes = info[1].As<Napi::Uint8Array>();
    HeldSession& session = held_session(info[0]);
    idle_session(info[0]);
    const int64_t position = info[2].As<Napi::Number>().Int64Value();
    if (!info[3].ToBoolean())
      return Jobs::of(info.Env()).start(info.Env(), std::make_unique<ImportJob>(session.ref, info[0], bytes, position));
    session.ref->import_state(bytes.Data(), int64_t(bytes.ByteLength()), position);
    session.tell(info.Env(), session.ref->own_bytes());
    return info.Env().Undefined();
  });
}

Napi::Value model_info(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Model& m = *model_of(info[0]);
    Napi::Object out = Napi::Object::New(info.Env());
    out.Set("backend", m.program.backend().name);
    out.Set("stateBytes", double(m.program.state_bytes()));
    out.Set("pageBytes", double(m.program.page_bytes()));
    out.Set("pageTokens", double(kPageTokens));
    out.Set("tokenBytes", double(m.program.token_bytes()));
    out.Set("weightBytes", double(m.weight_bytes()));
    out.Set("chunkTokens", double(m.chunk_tokens()));
    out.Set("outputFeatures", double(m.program.output_features()));
    out.Set("outputPer", m.program.output_dim() == kTokens    ? "token"
                         : m.program.output_dim() == kOutputs ? "output"
                                                              : "sequence");
    return Napi::Value(out);
  });
}

// A disposed handle keeps nothing; a running job keeps its own share until it ends.
void dispose(const Napi::CallbackInfo& info) {
  if (!info[0].IsExternal()) return;
  if (info[0].As<Napi::External<HeldModel>>().CheckTypeTag(&kModelTag)) {
    HeldModel& model = *info[0].As<Napi::External<HeldModel>>().Data();
    if (model.ref) model.ref->dispose();
    model.drop(info.Env());
  }
  if (info[0].As<Napi::External<HeldSession>>().CheckTypeTag(&kSessionTag))
    info[0].As<Napi::External<HeldSession>>().Data()->drop(info.Env());
}

}  // namespace

void export_models(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("buildModel", build_model);
  set("loadWeights", load_weights);
  set("readWeight", read_weight);
  set("adoptWeights", adopt_weights);
  set("publishWeights", publish_weights);
  set("createSession", create_session);
  set("forkSession", fork_session);
  set("sessionInfo", session_info);
  set("createSampler", create_sampler);
  set("sampleRow", sample_row);
  set("setPending", set_pending);
  set("sessionTokens", session_tokens);
  set("sessionRow", session_row);
  set("rememberSession", remember);
  set("exportSizes", export_sizes);
  set("digest", digest_bytes);
  set("exportSession", export_session);
  set("importSession", import_session);
  set("modelInfo", model_info);
  set("forward", forward);
  set("dispose", dispose);
}

}  // namespace statespace
