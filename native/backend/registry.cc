#include <cstdlib>
#include <cstring>
#include <string>

#include "backend/backend.h"
#include "backend/cpu_tables.h"
#include "backend/cuda_loader.h"
#include "core/adamw.h"
#include "core/conversions.h"
#include "core/error.h"
#include "core/logits.h"

namespace statespace {
namespace {

bool machine_has(const char* isa) {
#if defined(__x86_64__)
  if (!std::strcmp(isa, "avx2"))
    // Whatever has AVX2 has F16C, which clang 14 cannot ask for.
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (!std::strcmp(isa, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
  return true;
}

void use_host_memory(Backend& b) {
  b.alloc = [](int64_t bytes) -> void* {
    try {
      return aligned_alloc_bytes(bytes);
    } catch (const Error&) {
      return nullptr;
    }
  };
  b.free = aligned_free;
  b.upload = [](void* to, const void* from, int64_t n) { std::memcpy(to, from, n); };
  b.download = b.upload;
  b.copy = b.upload;
  b.zero = [](void* p, int64_t n) { std::memset(p, 0, n); };
  b.finish = []() -> const char* { return nullptr; };
}

struct CpuBackends {
  static constexpr int kMax = 5;
  Backend tables[kMax];
  const char* names[kMax];
  int count = 0;

  CpuBackends() {
    Backend all[kMax];
    int n = 0;
#define STATESPACE_FILL(isa) \
  if (machine_has(#isa)) isa::fill_table(all[n++]);
    STATESPACE_CPU_ISAS(STATESPACE_FILL)
#undef STATESPACE_FILL
#if defined(STATESPACE_TILE_TABLES)
    if (machine_has("avx512") && amx_usable() && avx512::tiles_agree())
      avx512::fill_tile_table(all[n++], TileUnit::amx);
#endif
    for (int i = n - 1; i >= 0; --i) {  // the list goes from narrow to wide
      use_host_memory(all[i]);
      names[count] = all[i].name;
      tables[count++] = all[i];
    }
  }
  static const CpuBackends& get() {
    static const CpuBackends backends;
    return backends;
  }
};

}  // namespace

// The tiles in memory: never chosen, but by name.
static const Backend* emulated_tiles() {
#if defined(STATESPACE_TILE_TABLES)
  static const Backend backend = [] {
    Backend b;
    avx512::fill_tile_table(b, TileUnit::emulated);
    use_host_memory(b);
    return b;
  }();
  return machine_has("avx512") ? &backend : nullptr;
#else
  return nullptr;
#endif
}

const Backend* cpu_backend(const char* name) {
  if (!std::strcmp(name, "amx-emulated")) return emulated_tiles();
  const auto& all = CpuBackends::get();
  for (int i = 0; i < all.count; ++i)
    if (!std::strcmp(all.names[i], name)) return &all.tables[i];
  return nullptr;
}

// `loops`(): what the widest of this machine's instruction sets has.
#define STATESPACE_TAKE(isa) \
  if (machine_has(#isa)) widest = isa::STATESPACE_LOOPS();
#define STATESPACE_WIDEST(Type, loops)     \
  const Type& loops() {                    \
    static const Type best = [] {          \
      Type widest = scalar::loops();       \
      STATESPACE_CPU_ISAS(STATESPACE_TAKE) \
      return widest;                       \
    }();                                   \
    return best;                           \
  }

#define STATESPACE_LOOPS conversions
STATESPACE_WIDEST(Conversions, conversions)
#undef STATESPACE_LOOPS
#define STATESPACE_LOOPS optimizer
STATESPACE_WIDEST(Optimizer, optimizer)
#undef STATESPACE_LOOPS
#define STATESPACE_LOOPS logit_loops
STATESPACE_WIDEST(LogitLoops, logit_loops)
#undef STATESPACE_LOOPS
#undef STATESPACE_TAKE
#undef STATESPACE_WIDEST

const char* const* available_cpu_backends(int* count) {
  *count = CpuBackends::get().count;
  return CpuBackends::get().names;
}

namespace {

const char* forced_backend() {
  const char* name = std::getenv("STATESPACE_BACKEND");
  return name ? name : "";
}
bool is_device(const char* name) { return !std::strcmp(name, "cuda") || !std::strcmp(name, "cuda-emulated"); }

const Backend* device_backend(const char* name, std::string* reason) {
  return !std::strcmp(name, "cuda") ? cuda_backend(reason) : emulated_cuda_backend(reason);
}

}  // namespace

const Backend& default_backend() {
  const char* forced = forced_backend();
  if (!*forced) return CpuBackends::get().tables[0];
  if (const Backend* b = cpu_backend(forced)) return *b;
  if (is_device(forced)) {
    std::string reason;
    if (const Backend* b = device_backend(forced, &reason)) return *b;
    throw Error(Code::kDevice, std::string("STATESPACE_BACKEND=") + forced + ": " + reason);
  }
  std::string names;
  for (int i = 0; i < CpuBackends::get().count; ++i) names += std::string(i ? ", " : "") + CpuBackends::get().names[i];
  throw Error(Code::kDevice, std::string("STATESPACE_BACKEND=") + forced + " is not usable here; usable: " + names);
}

const Backend& model_backend(const std::string& device) {
  const char* forced = forced_backend();
  if (device == "cpu") return is_device(forced) ? CpuBackends::get().tables[0] : default_backend();
  if (device == "auto" && *forced) return default_backend();
  std::string reason;
  if (const Backend* b = device_backend(is_device(forced) ? forced : "cuda", &reason)) return *b;
  if (device == "auto") return CpuBackends::get().tables[0];
  throw Error(Code::kDevice, "device 'cuda' is not usable: " + reason);
}

std::unique_lock<std::recursive_mutex> lock_device(const Backend& backend) {
  static auto* mutex = new std::recursive_mutex;  // models may end after static destructors
  return backend.host_memory ? std::unique_lock<std::recursive_mutex>() : std::unique_lock(*mutex);
}

}  // namespace statespace
