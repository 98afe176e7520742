#pragma once
#include <cstdint>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// All lines of these bytes, wherever in one they begin: memory that JavaScript allocated begins 16 bytes into a page.
[[gnu::always_inline]] inline void prefetch_bytes(const void* from, int64_t bytes) {
  constexpr int64_t kLine = 64;
  const char *p = static_cast<const char*>(from), *end = p + bytes;
  for (p -= reinterpret_cast<uintptr_t>(p) % kLine; p < end; p += kLine) prefetch(p);
}

}  // namespace statespace::STATESPACE_ISA
