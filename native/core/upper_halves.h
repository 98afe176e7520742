#pragma once

namespace statespace {

// For SSE code that follows functions of an instruction set with longer vectors: these may leave the upper halves in
// use (gcc 12 copies structs by 512 bits and ends without vzeroupper), and then each SSE instruction, which keeps them,
// waits for the one before it. Encoding q8_0 took three times as long on a Zen 4.
inline void clear_upper_halves() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool has = __builtin_cpu_supports("avx");
  if (has) asm volatile("vzeroupper");
#endif
}

}  // namespace statespace
