#pragma once
#include <napi.h>

namespace statespace {

void export_blocks(Napi::Env env, Napi::Object exports);

}  // namespace statespace
