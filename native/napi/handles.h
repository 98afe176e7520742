#pragma once
// What JavaScript holds of models, sessions and samplers.
#include <napi.h>

#include <memory>
#include <string>

#include "core/error.h"
#include "program/forward.h"

namespace statespace {

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
inline HeldModel& held_model(const Napi::Value& v) { return held<ModelRef>(v, kModelTag, "model"); }
inline HeldSession& held_session(const Napi::Value& v) { return held<SessionRef>(v, kSessionTag, "session"); }
inline ModelRef& model_of(const Napi::Value& v) { return held_model(v).ref; }
inline SessionRef& session_of(const Napi::Value& v) { return held_session(v).ref; }
inline SamplerRef& sampler_of(const Napi::Value& v) { return held<SamplerRef>(v, kSamplerTag, "sampler").ref; }
// A session that no job works on: what is read here would change under the reader.
inline SessionRef& idle_session(const Napi::Value& v) {
  SessionRef& session = session_of(v);
  if (session->in_use()) throw Error(Code::kState, "session: it is in use by a forward");
  return session;
}

inline Napi::Value session_handle(Napi::Env env, SessionRef session) {
  const int64_t bytes = session->own_bytes();
  return make_handle<SessionRef>(env, std::move(session), kSessionTag, bytes);
}

using Handle = Napi::Reference<Napi::Value>;

}  // namespace statespace
