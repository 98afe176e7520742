// Fuzzer of the program decoder: any bytes are refused with an error, or are a graph of which a program, its memory
// plan and a session can be made.
#include "core/error.h"
#include "program/model.h"

using namespace statespace;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  int count;
  static const Backend& backend = *cpu_backend(available_cpu_backends(&count)[0]);
  constexpr int64_t kSmall = 1 << 20;  // an address range may be reserved at any size; pages are touched below this
  try {
    const auto model = std::make_shared<Model>(backend, decode_graph(bytes, int64_t(size)));
    if (model->program.state_bytes() > kSmall || model->program.page_bytes() > kSmall) return 0;
    const auto session = std::make_shared<Session>(model);
    const auto state = session->export_state();
    std::make_shared<Session>(model)->import_state(state.data(), int64_t(state.size()), 0);
  } catch (const Error&) {
  }
  return 0;
}
