#pragma once
// Results in recycled memory, as ArrayBuffers that give it back (backing_store.h says how).
#include <napi.h>

#include "core/recycled.h"

namespace statespace {

// The block's floats; a copy where the runtime takes no memory of others, or where there are few. Throws Error.
Napi::Value to_js(Napi::Env env, FloatBlock block);

void export_memory(Napi::Env env, Napi::Object exports);

}  // namespace statespace
