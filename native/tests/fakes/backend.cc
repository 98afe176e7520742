// A backend library with one fault, which the build names by FAKE_…
#include "backend/backend.h"

#include <stdexcept>

#if !defined(FAKE_no_entry)
extern "C" __attribute__((visibility("default"))) const statespace::Backend* statespace_backend(const char** reason) {
  static statespace::Backend table;
#if defined(FAKE_wrong_abi)
  table.abi = statespace::kBackendAbi + 1;
#elif defined(FAKE_other_ops)
  table.ops_fingerprint = statespace::kOpsFingerprint ^ 1;
#elif defined(FAKE_no_driver)
  *reason = "CUDA driver version is insufficient for CUDA runtime version";
  return nullptr;
#elif defined(FAKE_no_reason)
  return nullptr;
#elif defined(FAKE_throws)
  throw std::runtime_error("no device");
#endif
  (void)reason;
  return &table;
}
#endif
