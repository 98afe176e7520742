#pragma once
// An ArrayBuffer over memory of the addon's own, as V8 itself would have made it: transferable, counted by the
// collector, and given back by whichever thread drops it last. Node-API's external buffers are none of these: Node
// marks them as untransferable, its collector does not hear of them in a synchronous loop, and an environment that ends
// takes their memory from under a running kernel.
//
// V8's own API is not stable across versions of Node, so it is looked up at run time and used only in those that the
// tests run in (20, 22 and 24, on Linux); elsewhere results are buffers that the runtime allocates.
#include <napi.h>

#include <memory>

#include "core/recycled.h"

namespace statespace {

// Whether this environment's runtime is one of those. Asked once per environment.
bool knows_backing_stores(Napi::Env env);

// `bytes` of the block as an ArrayBuffer. Needs knows_backing_stores.
Napi::ArrayBuffer array_buffer_over(Napi::Env env, FloatBlock block, int64_t bytes);

// A share of the memory behind a typed array, whoever made it: detaching or collecting it frees nothing while this
// lives. Empty where the runtime is not known. May be dropped on any thread.
std::shared_ptr<void> share_memory(const Napi::TypedArray& array);

}  // namespace statespace
