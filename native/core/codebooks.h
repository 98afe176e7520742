#pragma once
// The codebooks of ggml's IQ types: points of small lattices, 8 or 4 coordinates each.
#include <cstdint>

namespace statespace {

struct Codebooks {
  int8_t iq1[2048][8];  // -1, 0, 1
  uint8_t iq2_xxs[256][8], iq2_xs[512][8], iq2_s[1024][8];
  uint8_t iq3_xxs[256][4], iq3_s[512][4];
};
// Unfolded at the first use.
const Codebooks& codebooks();

// Signs of 8 values, a set bit is a minus: seven are stored and the eighth makes their number even.
inline uint8_t even_signs(uint32_t seven) {
  return uint8_t((seven & 127) | (__builtin_popcount(seven & 127) & 1) << 7);
}

}  // namespace statespace
