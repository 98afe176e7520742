#include <algorithm>
#include <cstring>

#include "core/digest.h"
#include "napi/convert.h"
#include "napi/handles.h"
#include "napi/jobs.h"
#include "napi/models.h"
#include "program/state_export.h"
#include "program/state_import.h"

namespace statespace {
namespace {

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
  void write(uint8_t* to, const std::atomic<bool>* stop) const {
    session->export_state(to, stop);
    write_rest(to + state_bytes());
  }
  void write_rest(uint8_t* to) const {
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

// What a snapshot begins with, before its native parts; of this, what stands before `from` is none of it.
struct Head {
  std::vector<uint8_t> bytes;
  int64_t from;
};

// Writes the head, the parts and, into the last bytes, a checksum of all of the snapshot before it.
void write_snapshot(const Exported& e, const Head& head, uint8_t* bytes, int64_t size,
                    const std::atomic<bool>* stop = nullptr) {
  const int64_t begin = int64_t(head.bytes.size());
  if (head.from < 0 || head.from > begin || size != begin + e.bytes() + kDigestBytes)
    throw Error(Code::kArgument, "export: the buffer is of another size");
  std::copy(head.bytes.begin(), head.bytes.end(), bytes);
  e.write(bytes + begin, stop);
  digest(bytes + head.from, size - head.from - kDigestBytes, bytes + size - kDigestBytes, stop);
}

class ExportJob : public Job {
 public:
  ExportJob(Exported e, Head head, Napi::Uint8Array to)
      : exported_(std::move(e)), head_(std::move(head)), to_(to.Data()), size_(int64_t(to.ByteLength())) {
    hold(to);
  }
  void execute() override { write_snapshot(exported_, head_, to_, size_, stop()); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  const Exported exported_;
  const Head head_;
  uint8_t* const to_;
  const int64_t size_;
};

// (session, with the row, buffer, head, where the snapshot begins in it, synchronously). Another thread writes a fork:
// the session may go on at once.
Napi::Value export_session(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const SessionRef& session = idle_session(info[0]);
    const bool row = info[1].ToBoolean(), sync = info[5].ToBoolean();
    auto to = info[2].As<Napi::Uint8Array>();
    const auto given = info[3].As<Napi::Uint8Array>();
    Head head{{given.Data(), given.Data() + given.ByteLength()}, info[4].As<Napi::Number>().Int64Value()};
    if (!sync)
      return Jobs::of(info.Env())
          .start(info.Env(), std::make_unique<ExportJob>(Exported{session->fork(), row}, std::move(head), to));
    write_snapshot({session, row}, head, to.Data(), int64_t(to.ByteLength()));
    return info.Env().Undefined();
  });
}

// A snapshot on its way out of a session, in the order of write_snapshot(), a piece at a time.
struct Leaving {
  Leaving(Exported e, Head h, int64_t size)
      : exported(std::move(e)),
        head(std::move(h)),
        state(*exported.session),
        digester(size - kDigestBytes - head.from),
        size(size),
        state_end(int64_t(head.bytes.size()) + exported.state_bytes()) {
    if (size != int64_t(head.bytes.size()) + exported.bytes() + kDigestBytes)
      throw Error(Code::kArgument, "export: the snapshot is of another size");
  }

  // The next bytes, at most so many; how many they are.
  int64_t read(uint8_t* to, int64_t most, const std::atomic<bool>* stop) {
    const int64_t begin = at;
    for (int64_t n; (n = std::min(most - (at - begin), size - at)) > 0; at += n, to += n) {
      const int64_t begins = int64_t(head.bytes.size()), ends = size - kDigestBytes;
      if (at < begins) {
        n = std::min(n, begins - at);
        std::memcpy(to, head.bytes.data() + at, size_t(n));
      } else if (at < state_end) {
        n = std::min({n, state_end - at, kPiece});
        state.read(to, n, stop);
      } else if (at < ends) {
        if (rest.empty()) exported.write_rest((rest.resize(size_t(ends - state_end)), rest.data()));
        n = std::min(n, ends - at);
        std::memcpy(to, rest.data() + (at - state_end), size_t(n));
      } else {
        if (at == ends) digester.finish(found);
        std::memcpy(to, found + (at - ends), size_t(n));
      }
      const int64_t skipped = std::clamp<int64_t>(head.from - at, 0, n), digested = std::min(n, ends - at);
      if (digested > skipped) digester.take(to + skipped, digested - skipped);
    }
    return at - begin;
  }

 private:
  static constexpr int64_t kPiece = 1 << 20;  // copied, and then digested while it is still in the cache
  const Exported exported;
  const Head head;
  StateExport state;
  Digester digester;
  const int64_t size, state_end;
  std::vector<uint8_t> rest;  // what follows the state
  uint8_t found[kDigestBytes] = {};
  int64_t at = 0;
};
using LeavingRef = std::shared_ptr<Leaving>;

constexpr napi_type_tag kLeavingTag = {0x7374617465737061, 0x6c656176696e6701};

// (session, with the row, head, where the snapshot begins in it, bytes in all): what gives the snapshot's pieces, of
// the session as it is now.
Napi::Value open_export(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto given = info[2].As<Napi::Uint8Array>();
    const auto number = [&](int i) { return info[i].As<Napi::Number>().Int64Value(); };
    Head head{{given.Data(), given.Data() + given.ByteLength()}, number(3)};
    Exported exported{idle_session(info[0])->fork(), info[1].ToBoolean()};
    return make_handle<LeavingRef>(
        info.Env(), std::make_shared<Leaving>(std::move(exported), std::move(head), number(4)), kLeavingTag, 0);
  });
}

class DepartureJob : public Job {
 public:
  DepartureJob(LeavingRef from, Napi::Uint8Array to)
      : from_(std::move(from)), to_(to.Data()), size_(int64_t(to.ByteLength())) {
    hold(to);
  }
  void execute() override { read_ = from_->read(to_, size_, stop()); }
  Napi::Value result(Napi::Env env) override { return Napi::Number::New(env, double(read_)); }

 private:
  const LeavingRef from_;
  uint8_t* const to_;
  const int64_t size_;
  int64_t read_ = 0;
};

// (export, bytes): fills them with the next ones; how many there were.
Napi::Value export_piece(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const LeavingRef& from = held<LeavingRef>(info[0], kLeavingTag, "snapshot").ref;
    return Jobs::of(info.Env()).start(info.Env(), std::make_unique<DepartureJob>(from, info[1].As<Napi::Uint8Array>()));
  });
}

void close_export(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { held<LeavingRef>(info[0], kLeavingTag, "snapshot").drop(info.Env()); });
}

// A snapshot on its way into a session: all of it is digested, what lies between `begin` and `end` is the state.
struct Arriving {
  Arriving(const SessionRef& session, int64_t state, int64_t position, int64_t begin, int64_t size)
      : state(session->model, state, position), digester(size), begin(begin), end(begin + state) {}
  StateImport state;
  Digester digester;
  const int64_t begin, end;
  int64_t at = 0;

  void take(const uint8_t* bytes, int64_t count, const std::atomic<bool>* stop = nullptr) {
    for (int64_t n; count > 0; bytes += n, count -= n, at += n) {
      n = std::min(count, kPiece);
      throw_if_stopped(stop);
      digester.take(bytes, n);
      const int64_t low = std::clamp<int64_t>(begin - at, 0, n), high = std::clamp<int64_t>(end - at, 0, n);
      if (high > low) state.take(bytes + low, high - low, stop);
    }
  }

 private:
  static constexpr int64_t kPiece = 1 << 20;  // digested, and then copied while it is still in the cache
};
using ArrivingRef = std::shared_ptr<Arriving>;

constexpr napi_type_tag kArrivingTag = {0x7374617465737061, 0x6172726976696e01};

Held<ArrivingRef>& held_arriving(const Napi::Value& v) { return held<ArrivingRef>(v, kArrivingTag, "snapshot"); }

// (session, bytes of state, position, where they begin, bytes that are digested): what takes the snapshot's pieces.
Napi::Value open_import(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto number = [&](int i) { return info[i].As<Napi::Number>().Int64Value(); };
    return make_handle<ArrivingRef>(
        info.Env(), std::make_shared<Arriving>(idle_session(info[0]), number(1), number(2), number(3), number(4)),
        kArrivingTag, 0);
  });
}

class ArrivalJob : public Job {
 public:
  ArrivalJob(ArrivingRef to, const Napi::Uint8Array& bytes)
      : to_(std::move(to)), bytes_(bytes.Data()), size_(int64_t(bytes.ByteLength())) {
    hold(bytes);
  }
  void execute() override { to_->take(bytes_, size_, stop()); }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  const ArrivingRef to_;
  const uint8_t* const bytes_;
  const int64_t size_;
};

// (import, bytes, synchronously): the next ones.
Napi::Value import_piece(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const ArrivingRef& to = held_arriving(info[0]).ref;
    const auto bytes = info[1].As<Napi::Uint8Array>();
    if (!info[2].ToBoolean()) return Jobs::of(info.Env()).start(info.Env(), std::make_unique<ArrivalJob>(to, bytes));
    to->take(bytes.Data(), int64_t(bytes.ByteLength()));
    return info.Env().Undefined();
  });
}

// (import, session, digest): the session is what has come, where its digest is that; whether it is. The import is over.
Napi::Value close_import(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto& arriving = held_arriving(info[0]);
    const ArrivingRef from = std::move(arriving.ref);
    arriving.drop(info.Env());
    HeldSession& session = held_session(info[1]);
    idle_session(info[1]);
    const auto expected = info[2].As<Napi::Uint8Array>();
    uint8_t found[kDigestBytes];
    from->digester.finish(found);
    const bool intact =
        std::equal(found, found + kDigestBytes, expected.Data(), expected.Data() + expected.ByteLength());
    if (intact) {
      from->state.give_to(*session.ref);
      session.tell(info.Env(), session.ref->own_bytes());
    }
    return Napi::Boolean::New(info.Env(), intact);
  });
}

class DigestJob : public Job {
 public:
  explicit DigestJob(const Napi::Uint8Array& bytes) : bytes_(bytes.Data()), size_(int64_t(bytes.ByteLength())) {
    hold(bytes);
  }
  void execute() override { digest(bytes_, size_, found_, stop()); }
  Napi::Value result(Napi::Env env) override {
    auto out = Napi::Uint8Array::New(env, kDigestBytes);
    std::copy(found_, found_ + kDigestBytes, out.Data());
    return out;
  }

 private:
  const uint8_t* const bytes_;
  const int64_t size_;
  uint8_t found_[kDigestBytes] = {};
};

// (bytes, synchronously): their checksum.
Napi::Value digest_bytes(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto job = std::make_unique<DigestJob>(info[0].As<Napi::Uint8Array>());
    if (!info[1].ToBoolean()) return Jobs::of(info.Env()).start(info.Env(), std::move(job));
    job->execute();
    return job->result(info.Env());
  });
}

}  // namespace

void export_sessions(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("createSession", create_session);
  set("forkSession", fork_session);
  set("sessionInfo", session_info);
  set("setPending", set_pending);
  set("sessionTokens", session_tokens);
  set("sessionRow", session_row);
  set("rememberSession", remember);
  set("exportSizes", export_sizes);
  set("digest", digest_bytes);
  set("exportSession", export_session);
  set("openExport", open_export);
  set("exportPiece", export_piece);
  set("closeExport", close_export);
  set("openImport", open_import);
  set("importPiece", import_piece);
  set("closeImport", close_import);
}

}  // namespace statespace
