#pragma once
#include <napi.h>

namespace statespace {

void export_training(Napi::Env env, Napi::Object exports);

}  // namespace statespace
