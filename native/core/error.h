#pragma once
// Typed failures of the native side. They cross N-API as StatespaceError with the same code.
#include <cstdint>
#include <stdexcept>
#include <string>

namespace statespace {

enum class Code : uint8_t {
  kShape,
  kDType,
  kArgument,
  kCheckpoint,
  kUnsupportedModel,
  kState,
  kDevice,
  kDisposed,
  kOutOfMemory,
  kAborted,
};

inline const char* code_name(Code code) {
  constexpr const char* kNames[] = {
      "ERR_SHAPE", "ERR_DTYPE",  "ERR_ARGUMENT", "ERR_CHECKPOINT",    "ERR_UNSUPPORTED_MODEL",
      "ERR_STATE", "ERR_DEVICE", "ERR_DISPOSED", "ERR_OUT_OF_MEMORY", "ERR_ABORTED"};
  return kNames[static_cast<int>(code)];
}

class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code(code) {}
  const Code code;
};

}  // namespace statespace
