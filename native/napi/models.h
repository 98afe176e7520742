#pragma once
// Models and sessions: buildModel, loadWeights, createSession …, forward. Handles are externals that share ownership
// with the jobs that use them.
#include <napi.h>

namespace statespace {

void export_models(Napi::Env env, Napi::Object exports);

}  // namespace statespace
