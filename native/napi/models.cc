#include "napi/models.h"

#include <algorithm>
#include <cstring>

#include "core/memory_map.h"
#include "napi/convert.h"
#include "napi/jobs.h"
#include "napi/long_job.h"
#include "napi/memory.h"
#include "program/model.h"

namespace statespace {
namespace {

using ModelRef = std::shared_ptr<Model>;
using SessionRef = std::shared_ptr<Session>;

constexpr napi_type_tag kModelTag = {0x7374617465737061, 0x6d6f64656c000001};
constexpr napi_type_tag kSessionTag = {0x7374617465737061, 0x73657373696f6e01};

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

Napi::Value session_handle(Napi::Env env, SessionRef session) {
  const int64_t bytes = session->bytes();
  return make_handle<SessionRef>(env, std::move(session), kSessionTag, bytes);
}

using Handle = Napi::Reference<Napi::Value>;

// (graph, "auto" | "cpu" | "cuda")
Napi::Value build_model(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const auto bytes = info[0].As<Napi::Uint8Array>();
    const Backend& backend = model_backend(info[1].ToString().Utf8Value());
    auto model = std::make_shared<Model>(backend, decode_graph(bytes.Data(), int64_t(bytes.ByteLength())));
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
    std::vector<std::unique_ptr<MappedFile>> maps;
    for (const auto& path : files_) maps.push_back(std::make_unique<MappedFile>(path));
    int64_t done = 0;
    for (const WeightEntry& e : entries_) {
      if (stopped()) throw Error(Code::kAborted, "aborted");
      if (e.random) {
        model_->set_random(e.value, e.bound, seed_);
        continue;
      }
      std::vector<Model::Source> sources;
      std::vector<std::vector<uint8_t>> gathered;
      for (const auto& p : e.parts) {
        const void* data = p.data;
        const int64_t bytes = dtype_bytes(p.dtype, p.count);
        if (p.file >= 0) {
          const MappedFile& map = *maps.at(p.file);
          const int64_t span = p.rows ? rows_end(p) * (bytes / p.row_count) : bytes;
          if (p.offset < 0 || p.offset > map.bytes() || span > map.bytes() - p.offset)
            throw Error(Code::kCheckpoint, files_[p.file] + ": holds " + std::to_string(map.bytes()) +
                                               " bytes, a tensor ends at " + std::to_string(p.offset + span));
          data = map.data() + p.offset;
          if (p.rows) data = gathered.emplace_back(gather_rows(map.data() + p.offset, p, bytes)).data();
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
  static std::vector<uint8_t> gather_rows(const uint8_t* from, const WeightEntry::Part& p, int64_t bytes) {
    std::vector<uint8_t> to(bytes);
    const int64_t row = bytes / p.row_count;
    for (int64_t i = 0; i < p.row_count; ++i) std::memcpy(to.data() + i * row, from + p.rows[i] * row, row);
    return to;
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

class ForwardJob : public LongJob {
 public:
  // (sessions, tokens | rows, lengths, "none" | "last" | "all" | "whole" for each, cancel, onProgress)
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
      const int rows = find_choice("none|last|all|whole", modes.Get(i).ToString().Utf8Value());
      if (rows < 0) throw Error(Code::kArgument, "forward: logits: expected none, last, all or whole");
      r.rows = static_cast<Rows>(rows);
      if (r.length < 0) throw Error(Code::kArgument, "forward: a negative length");
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
    if (at * width != int64_t(data.ElementLength()))
      throw Error(Code::kArgument, "forward: the lengths add up to " + std::to_string(at * width) +
                                       " values, received " + std::to_string(data.ElementLength()));
  }
  void execute() override {
    rows_ = model_->forward(requests_, {[this] { return stopped(); }, [this](int64_t done) { report(done); }});
  }
  Napi::Value result(Napi::Env env) override {
    for (const Handle& handle : handles_)  // their caches may have grown
      if (HeldSession& s = *handle.Value().As<Napi::External<HeldSession>>().Data(); s.ref) s.tell(env, s.ref->bytes());
    return to_js(env, std::move(rows_));
  }

 private:
  ModelRef model_;
  std::vector<Request> requests_;
  std::vector<Handle> handles_;
  FloatBlock rows_;
};

Napi::Value forward(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<ForwardJob>(info));
  });
}

Napi::Value create_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return session_handle(info.Env(), std::make_shared<Session>(model_of(info[0]))); });
}

Napi::Value fork_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return session_handle(info.Env(), session_of(info[0])->fork()); });
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

Napi::Value export_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const std::vector<uint8_t> bytes = session_of(info[0])->export_state();
    auto out = Napi::Uint8Array::New(info.Env(), bytes.size());
    std::copy(bytes.begin(), bytes.end(), out.Data());
    return Napi::Value(out);
  });
}

// (session, bytes, position)
void import_session(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] {
    const auto bytes = info[1].As<Napi::Uint8Array>();
    HeldSession& session = held_session(info[0]);
    session.ref->import_state(bytes.Data(), int64_t(bytes.ByteLength()), info[2].As<Napi::Number>().Int64Value());
    session.tell(info.Env(), session.ref->bytes());
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
  if (info[0].As<Napi::External<HeldModel>>().CheckTypeTag(&kModelTag))
    info[0].As<Napi::External<HeldModel>>().Data()->drop(info.Env());
  else if (info[0].As<Napi::External<HeldSession>>().CheckTypeTag(&kSessionTag))
    info[0].As<Napi::External<HeldSession>>().Data()->drop(info.Env());
}

}  // namespace

void export_models(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("buildModel", build_model);
  set("loadWeights", load_weights);
  set("createSession", create_session);
  set("forkSession", fork_session);
  set("sessionInfo", session_info);
  set("exportSession", export_session);
  set("importSession", import_session);
  set("modelInfo", model_info);
  set("forward", forward);
  set("dispose", dispose);
}

}  // namespace statespace
