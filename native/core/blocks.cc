#include "core/blocks.h"

#include "core/codebooks.h"
#include "core/halves.h"

namespace statespace {
namespace {

uint16_t u16(const uint8_t* p) { return uint16_t(p[0] | p[1] << 8); }
uint32_t u32(const uint8_t* p) {
  return uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24;
}
float half(const uint8_t* p) { return f16_to_f32(u16(p)); }

// Value j of 32 from 16 bytes: the first half lies in the low nibbles.
int nibble(const uint8_t* q, int j) { return j < 16 ? q[j] & 15 : q[j - 16] >> 4; }
// Two bits: value e of 256 from 64 bytes.
int crumb(const uint8_t* q, int e) { return q[32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3; }

void q8_0(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 32; ++i) y[i] = float(int8_t(b[2 + i])) * d;
}
void q4_0(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 32; ++i) y[i] = float(nibble(b + 2, i) - 8) * d;
}
void q4_1(const uint8_t* b, float* y) {
  const float d = half(b), m = half(b + 2);
  for (int i = 0; i < 32; ++i) y[i] = float(nibble(b + 4, i)) * d + m;
}
void q5_0(const uint8_t* b, float* y) {
  const float d = half(b);
  const uint32_t high = u32(b + 2);
  for (int i = 0; i < 32; ++i) y[i] = float(int(nibble(b + 6, i) | (high >> i & 1) << 4) - 16) * d;
}
void q5_1(const uint8_t* b, float* y) {
  const float d = half(b), m = half(b + 2);
  const uint32_t high = u32(b + 4);
  for (int i = 0; i < 32; ++i) y[i] = float(nibble(b + 8, i) | (high >> i & 1) << 4) * d + m;
}
void iq4_nl(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 32; ++i) y[i] = float(kIq4Values[nibble(b + 2, i)]) * d;
}
void mxfp4(const uint8_t* b, float* y) {
  // 2^(e - 128); the two smallest are denormal.
  const float d = float_of_bits(b[0] >= 2 ? uint32_t(b[0] - 1) << 23 : 1u << (21 + b[0]));
  for (int i = 0; i < 32; ++i) y[i] = float(kMxfp4Values[nibble(b + 1, i)]) * d;
}
void nvfp4(const uint8_t* b, float* y) {
  for (int s = 0; s < 4; ++s) {
    // Half of an unsigned e4m3; 0 and the only NaN are 0.
    const int e = b[s] >> 3 & 15, m = b[s] & 7, code = b[s] & 127;
    float scale = e ? (1 + float(m) / 8) * float_of_bits(uint32_t(127 + e - 7) << 23) : float(m) * 0x1p-9f;
    scale = code == 0 || code == 127 ? 0 : scale * 0.5f;
    for (int i = 0; i < 16; ++i) {
      const uint8_t q = b[4 + 8 * s + i % 8];
      y[16 * s + i] = float(kMxfp4Values[i < 8 ? q & 15 : q >> 4]) * scale;
    }
  }
}
void q1_0(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 128; ++i) y[i] = b[2 + i / 8] >> i % 8 & 1 ? d : -d;
}
void q2_0(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int i = 0; i < 64; ++i) y[i] = float((b[2 + i / 4] >> 2 * (i % 4) & 3) - 1) * d;
}
void q2_k(const uint8_t* b, float* y) {
  const float d = half(b + 80), dmin = half(b + 82);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * float(b[s] & 15), min = dmin * float(b[s] >> 4);
    for (int e = 16 * s; e < 16 * s + 16; ++e) y[e] = scale * float(crumb(b + 16, e)) - min;
  }
}
void q3_k(const uint8_t* b, float* y) {
  const float d = half(b + 108);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * float(scale_k3(b + 96, s));
    for (int e = 16 * s; e < 16 * s + 16; ++e)
      y[e] = scale * float(crumb(b + 32, e) - (b[e % 32] >> e / 32 & 1 ? 0 : 4));
  }
}
void q4_k(const uint8_t* b, float* y) {
  const float d = half(b), dmin = half(b + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min_k4(b + 4, j);
    const float scale = d * float(s.scale), min = dmin * float(s.min);
    for (int i = 0; i < 32; ++i) y[32 * j + i] = scale * float(b[16 + 32 * (j / 2) + i] >> 4 * (j & 1) & 15) - min;
  }
}
void q5_k(const uint8_t* b, float* y) {
  const float d = half(b), dmin = half(b + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min_k4(b + 4, j);
    const float scale = d * float(s.scale), min = dmin * float(s.min);
    for (int i = 0; i < 32; ++i) {
      const int q = (b[48 + 32 * (j / 2) + i] >> 4 * (j & 1) & 15) | (b[16 + i] >> j & 1) << 4;
      y[32 * j + i] = scale * float(q) - min;
    }
  }
}
void q6_k(const uint8_t* b, float* y) {
  const float d = half(b + 208);
  for (int e = 0; e < 256; ++e) {
    const int part = e / 128, k = e % 128 / 32, l = e % 32;
    const int q = (b[64 * part + 32 * (k & 1) + l] >> 4 * (k >> 1) & 15) | (b[128 + 32 * part + l] >> 2 * k & 3) << 4;
    y[e] = d * float(int8_t(b[192 + e / 16])) * float(q - 32);
  }
}
void iq4_xs(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int g = 0; g < 8; ++g) {
    const float scale = d * float(scale_iq4_xs(u16(b + 2), b + 4, g));
    for (int i = 0; i < 32; ++i) y[32 * g + i] = float(kIq4Values[nibble(b + 8 + 16 * g, i)]) * scale;
  }
}
void tq2_0(const uint8_t* b, float* y) {
  const float d = half(b + 64);
  for (int e = 0; e < 256; ++e) y[e] = float(crumb(b, e) - 1) * d;
}
void tq1_0(const uint8_t* b, float* y) {
  constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  const float d = half(b + 52);
  const auto digits = [&](const uint8_t* bytes, int count, int each) {
    for (int k = 0; k < each; ++k)
      for (int i = 0; i < count; ++i) *y++ = float((uint8_t(bytes[i] * kPowers[k]) * 3 >> 8) - 1) * d;
  };
  digits(b, 32, 5), digits(b + 32, 16, 5), digits(b + 48, 4, 4);
}

// A point of a codebook, scaled and signed.
template <int N>
void point(const uint8_t (&grid)[N], uint8_t signs, float scale, float* y) {
  for (int i = 0; i < N; ++i) y[i] = scale * float(grid[i]) * (signs >> i & 1 ? -1.f : 1.f);
}

void iq2_xxs(const uint8_t* b, float* y) {
  const float d = half(b);
  b += 2;
  for (int g = 0; g < 8; ++g, b += 8) {
    const uint32_t v = u32(b + 4);
    const float scale = d * (0.5f + float(v >> 28)) * 0.25f;
    for (int l = 0; l < 4; ++l) point(codebooks().iq2_xxs[b[l]], even_signs(v >> 7 * l), scale, y + 32 * g + 8 * l);
  }
}
// Scale of the 8 values number g: nibbles of a byte for 32.
float scale_iq2(float d, const uint8_t* scales, int g) {
  return d * (0.5f + float(scales[g / 4] >> 4 * (g % 4 / 2) & 15)) * 0.25f;
}
void iq2_xs(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int g = 0; g < 32; ++g) {
    const uint16_t w = u16(b + 2 + 2 * g);
    point(codebooks().iq2_xs[w & 511], even_signs(w >> 9), scale_iq2(d, b + 66, g), y + 8 * g);
  }
}
void iq2_s(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int g = 0; g < 32; ++g) {
    const int index = b[2 + g] | (b[66 + g / 4] >> 2 * (g % 4) & 3) << 8;
    point(codebooks().iq2_s[index], b[34 + g], scale_iq2(d, b + 74, g), y + 8 * g);
  }
}
void iq3_xxs(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int g = 0; g < 32; ++g) {
    const uint32_t v = u32(b + 66 + 4 * (g / 4));
    const float scale = d * (0.5f + float(v >> 28)) * 0.5f;
    const uint8_t signs = even_signs(v >> 7 * (g % 4));
    for (int i = 0; i < 2; ++i) point(codebooks().iq3_xxs[b[2 + 2 * g + i]], signs >> 4 * i, scale, y + 8 * g + 4 * i);
  }
}
void iq3_s(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int g = 0; g < 64; ++g) {
    const int index = b[2 + g] | (b[66 + g / 8] >> g % 8 & 1) << 8;
    const float scale = d * float(1 + 2 * (b[106 + g / 16] >> 4 * (g % 16 / 8) & 15));
    point(codebooks().iq3_s[index], b[74 + g / 2] >> 4 * (g & 1), scale, y + 4 * g);
  }
}
void shifted(const int8_t (&grid)[8], float scale, bool down, float* y) {
  for (int i = 0; i < 8; ++i) y[i] = scale * (float(grid[i]) + (down ? -0.125f : 0.125f));
}
void iq1_s(const uint8_t* b, float* y) {
  const float d = half(b);
  for (int g = 0; g < 32; ++g) {
    const uint16_t v = u16(b + 34 + 2 * (g / 4));
    const int index = b[2 + g] | (v >> 3 * (g % 4) & 7) << 8;
    shifted(codebooks().iq1[index], d * float(2 * (v >> 12 & 7) + 1), v & 0x8000, y + 8 * g);
  }
}
void iq1_m(const uint8_t* b, float* y) {
  uint16_t bits = 0;
  for (int i = 0; i < 4; ++i) bits |= (u16(b + 48 + 2 * i) >> 12) << 4 * i;
  const float d = f16_to_f32(bits);
  for (int g = 0; g < 32; ++g) {
    const int v = b[32 + g / 2] >> 4 * (g & 1) & 15;
    const int index = b[g] | (v & 7) << 8, scale = u16(b + 48 + 2 * (g / 8)) >> 3 * (g % 8 / 2) & 7;
    shifted(codebooks().iq1[index], d * float(2 * scale + 1), v & 8, y + 8 * g);
  }
}

using Decode = void (*)(const uint8_t*, float*);
constexpr Decode kDecoders[] = {q8_0,  q4_0,    q4_1,   q5_0,  q5_1,    q2_k,  q3_k,  q4_k,  q5_k,
                                q6_k,  iq4_nl,  iq4_xs, mxfp4, q1_0,    q2_0,  tq1_0, tq2_0, iq1_s,
                                iq1_m, iq2_xxs, iq2_xs, iq2_s, iq3_xxs, iq3_s, nvfp4};
static_assert(sizeof kDecoders / sizeof(Decode) == kDTypes - int(DType::q8_0));

}  // namespace

void decode_blocks(DType type, const uint8_t* blocks, int64_t count, float* out) {
  if (!is_quantised(type)) {
    for (int64_t i = 0; i < count; ++i) out[i] = read_float(blocks, type, i);
    return;
  }
  const Decode decode = kDecoders[int(type) - int(DType::q8_0)];
  const int64_t block = dtype_block(type), bytes = dtype_bytes(type, block);
  for (int64_t i = 0; i < count; i += block, blocks += bytes) decode(blocks, out + i);
}

}  // namespace statespace
