#pragma once
// systemInfo(), setThreads().
#include <napi.h>

namespace statespace {

void export_system(Napi::Env env, Napi::Object exports);

}  // namespace statespace
