#pragma once
// The instruction sets of this build: X(name) for each.
#if defined(__x86_64__)
#define STATESPACE_CPU_ISAS(X) X(scalar) X(avx2) X(avx512)
#elif defined(__aarch64__)
#define STATESPACE_CPU_ISAS(X) X(scalar) X(neon)
#else
#define STATESPACE_CPU_ISAS(X) X(scalar)
#endif

namespace statespace {
struct Backend;
struct Limits;
#define STATESPACE_DECLARE(isa) \
  namespace isa {               \
  void fill_table(Backend& b);  \
  Limits limits();              \
  }
STATESPACE_CPU_ISAS(STATESPACE_DECLARE)
#undef STATESPACE_DECLARE
}  // namespace statespace
