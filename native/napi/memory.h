#pragma once
// Memory for the outputs of eager ops.
#include <napi.h>

namespace statespace {

void export_memory(Napi::Env env, Napi::Object exports);

}  // namespace statespace
