#pragma once
// initialSystem(kind, N, A, B, sync): what hippo and s4dInit compute.
#include <napi.h>

namespace statespace {

void export_initial(Napi::Env env, Napi::Object exports);

}  // namespace statespace
