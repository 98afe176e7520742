#pragma once
// Ops called directly: describeOps(), runOp(name, tensors, attrs, sync).
#include <napi.h>

namespace statespace {

void export_eager(Napi::Env env, Napi::Object exports);

}  // namespace statespace
