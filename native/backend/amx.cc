// Asks processor and system for AMX.
#include "backend/cpu_tables.h"

#if defined(STATESPACE_TILE_TABLES)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace statespace {

bool amx_usable() {
#if defined(__linux__)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24;
  if ((d & (kBf16 | kTile)) != (kBf16 | kTile)) return false;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & 1u << 27)) return false;  // no XGETBV
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kTileState = 3u << 17;
  if ((low & kTileState) != kTileState) return false;
  // Linux lends the 8 KiB of tile state to processes that ask (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA).
  return syscall(SYS_arch_prctl, 0x1023, 18) == 0;
#else
  return false;
#endif
}

bool amx_has_int8() {
  static const bool has = [] {
    unsigned a, b, c, d;
    return amx_usable() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & 1u << 25);
  }();
  return has;
}

}  // namespace statespace
#endif
