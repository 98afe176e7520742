#pragma once
#include <napi.h>

namespace statespace {

void export_limits(Napi::Env env, Napi::Object exports);

}  // namespace statespace
