// The addon's exports; nothing else.
#include <napi.h>

#include "core/stay_loaded.h"
#include "napi/blocks.h"
#include "napi/eager.h"
#include "napi/initial.h"
#include "napi/jobs.h"
#include "napi/limits.h"
#include "napi/memory.h"
#include "napi/models.h"
#include "napi/system.h"
#include "napi/training.h"

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  statespace::stay_loaded();
  env.SetInstanceData(new statespace::Jobs(env));
  statespace::export_system(env, exports);
  statespace::export_blocks(env, exports);
  statespace::export_eager(env, exports);
  statespace::export_initial(env, exports);
  statespace::export_limits(env, exports);
  statespace::export_memory(env, exports);
  statespace::export_models(env, exports);
  statespace::export_forwards(env, exports);
  statespace::export_sessions(env, exports);
  statespace::export_training(env, exports);
  return exports;
}

NODE_API_MODULE(statespace, init)
