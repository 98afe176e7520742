// Fuzzer of a snapshot's native part: any state at any position is refused, or taken over whole and given back as it
// was, and the session runs on from it. The input: 8 bytes of position, then the state.
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "small_model.h"

using namespace statespace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  int count;
  static const auto model = test::small_model(*cpu_backend(available_cpu_backends(&count)[0]));
  int64_t position = 0;
  if (size < sizeof(position)) return 0;
  std::memcpy(&position, bytes, sizeof(position));
  bytes += sizeof(position), size -= sizeof(position);
  const auto session = std::make_shared<Session>(model);
  const auto before = session->export_state();
  try {
    session->import_state(bytes, int64_t(size), position);
  } catch (const Error&) {
    if (session->export_state() != before || session->position() != 0) std::abort();
    return 0;
  }
  const auto taken = session->export_state();
  if (taken.size() != size || std::memcmp(taken.data(), bytes, size) != 0) std::abort();
  test::feed(*model, session, {1, 2, 3});
  if (session->position() != position + 3) std::abort();
  return 0;
}
