#include "napi/models.h"

#include <algorithm>
#include <cstring>

#include "core/memory_map.h"
#include "napi/convert.h"
#include "napi/handles.h"
#include "napi/jobs.h"
#include "napi/long_job.h"

namespace statespace {
namespace {

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
    constexpr int64_t kWorthReturning = 32 << 20;
    if (load() > kWorthReturning) return_freed_memory();
  }

  Napi::Value result(Napi::Env env) override {
    const auto external = handle_.Value();
    if (HeldModel& held = *external.As<Napi::External<HeldModel>>().Data(); held.ref)
      held.tell(env, model_->weight_bytes());
    return Napi::Number::New(env, double(model_->weight_bytes()));
  }

 private:
  // Returns the bytes of what was read.
  int64_t load() {
    std::vector<std::unique_ptr<WeightFile>> files;
    for (const auto& path : files_) files.push_back(std::make_unique<WeightFile>(path));
    Buffer staged, out_of_order;
    int64_t done = 0;
    for (const WeightEntry& e : entries_) {
      if (stopped()) throw Error(Code::kAborted, "aborted");
      if (e.random) {
        model_->set_random(e.value, e.bound, seed_, stop());
        continue;
      }
      if (streamed(e, files)) {
        report(done += dtype_bytes(e.parts[0].dtype, e.parts[0].count));
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
      model_->set_weight(e.value, sources, stop());
      report(done);
    }
    return done;
  }

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

  // A weight that is one tensor of a file: read where it is laid out.
  bool streamed(const WeightEntry& e, const std::vector<std::unique_ptr<WeightFile>>& files) {
    if (e.parts.size() != 1 || e.parts[0].file < 0 || e.parts[0].rows) return false;
    const WeightEntry::Part& p = e.parts[0];
    const WeightFile& file = *files.at(p.file);
    check_end(file, p, dtype_bytes(p.dtype, p.count));
    const auto read = [&](int64_t first, int64_t count, void* to) {
      const Value& v = model_->program.graph().values[e.value];
      const int64_t row = dtype_bytes(p.dtype, v.dims[v.rank - 1]);
      file.read(p.offset + first * row, count * row, to);
    };
    return model_->stream_weight(e.value, p.dtype, p.count, read, stop());
  }

  void check_end(const WeightFile& file, const WeightEntry::Part& p, int64_t bytes) const {
    if (p.offset < 0 || p.offset > file.bytes() || bytes > file.bytes() - p.offset)
      throw Error(Code::kCheckpoint, files_[p.file] + ": holds " + std::to_string(file.bytes()) +
                                         " bytes, a tensor ends at " + std::to_string(p.offset + bytes));
  }

  static constexpr int64_t kAlign = 64, kPiece = 4 << 20;  // bytes; one thread reads a piece at a time

  void read_part(const WeightFile& file, const WeightEntry::Part& p, int64_t bytes, char* to) {
    check_end(file, p, bytes);
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
  void execute() override { model_->read_weight(value_, to_, stop()); }
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

class PrepareJob : public Job {
 public:
  PrepareJob(ModelRef model, int64_t pages) : model_(std::move(model)), pages_(pages) {}
  bool advance() override {
    done_ = std::min(pages_, done_ + kStep);
    model_->prepare_pages(done_, stop());
    return done_ < pages_;
  }
  int64_t left() const override { return pages_ - done_; }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  static constexpr int64_t kStep = 4;  // some milliseconds
  const ModelRef model_;
  const int64_t pages_;
  int64_t done_ = 0;
};

// (model, pages): their memory is there before sessions take it.
Napi::Value prepare_pages(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const int64_t pages = info[1].As<Napi::Number>().Int64Value();
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<PrepareJob>(model_of(info[0]), pages));
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

// The system takes milliseconds to have hundreds of megabytes back: not the event loop's.
class DisposeJob : public Job {
 public:
  explicit DisposeJob(ModelRef model) : model_(std::move(model)) {}
  void execute() override {
    model_->dispose();
    model_.reset();
  }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  ModelRef model_;
};

// A disposed handle keeps nothing; a running job keeps its own share until it ends. Of a model a promise that is kept
// when its memory is free.
Napi::Value dispose(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsExternal()) return env.Undefined();
  if (info[0].As<Napi::External<HeldModel>>().CheckTypeTag(&kModelTag)) {
    HeldModel& held = *info[0].As<Napi::External<HeldModel>>().Data();
    ModelRef model = held.ref;
    held.drop(env);
    if (model) return Jobs::of(env).start(env, std::make_unique<DisposeJob>(std::move(model)));
  }
  if (info[0].As<Napi::External<HeldSession>>().CheckTypeTag(&kSessionTag))
    info[0].As<Napi::External<HeldSession>>().Data()->drop(env);
  return env.Undefined();
}

}  // namespace

void export_models(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("buildModel", build_model);
  set("loadWeights", load_weights);
  set("readWeight", read_weight);
  set("adoptWeights", adopt_weights);
  set("publishWeights", publish_weights);
  set("preparePages", prepare_pages);
  set("modelInfo", model_info);
  set("dispose", dispose);
}

}  // namespace statespace
