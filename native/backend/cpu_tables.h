#pragma once
// The instruction sets of this build: X(name) for each.
#if defined(__x86_64__) && defined(STATESPACE_WITHOUT_AVX2)
#define STATESPACE_CPU_ISAS(X) X(scalar) X(avx512)
#elif defined(__x86_64__)
#define STATESPACE_CPU_ISAS(X) X(scalar) X(avx2) X(avx512)
#elif defined(__aarch64__)
#define STATESPACE_CPU_ISAS(X) X(scalar) X(neon)
#else
#define STATESPACE_CPU_ISAS(X) X(scalar)
#endif

#include "core/tile_unit.h"

namespace statespace {
struct Backend;
struct Conversions;
struct Optimizer;
struct Limits;
struct LogitLoops;
#define STATESPACE_DECLARE(isa) \
  namespace isa {               \
  void fill_table(Backend& b);  \
  Limits limits();              \
  Conversions conversions();    \
  Optimizer optimizer();        \
  LogitLoops logit_loops();     \
  }
STATESPACE_CPU_ISAS(STATESPACE_DECLARE)
#undef STATESPACE_DECLARE

#if defined(__x86_64__) && defined(__GNUC__)
namespace avx512 {
// The table with a matrix unit for its products of bf16.
void fill_tile_table(Backend& b, TileUnit unit);
// Whether the machine's unit multiplies as the emulated one does; only where amx_usable().
bool tiles_agree();
}  // namespace avx512
#define STATESPACE_TILE_TABLES
// Whether the processor has AMX with bf16 and the system lets this process use it.
bool amx_usable();
// And with products of bytes.
bool amx_has_int8();
#endif
}  // namespace statespace
