#pragma once
// Models, what runs them and their sessions. Handles are externals that share ownership with the jobs that use them.
#include <napi.h>

namespace statespace {

void export_models(Napi::Env env, Napi::Object exports);    // buildModel, loadWeights …
void export_forwards(Napi::Env env, Napi::Object exports);  // forward, samplers
void export_sessions(Napi::Env env, Napi::Object exports);  // createSession …, snapshots

}  // namespace statespace
