#include "kernels/quantised_panels.h"

#include <type_traits>

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int kUnit = 4 * kLanes;  // bytes of a plane

// One block taken apart: a code for each value, and the scales as the head has them.
struct Parts {
  uint8_t codes[256];
  uint8_t d[2] = {}, min[2] = {};  // f16
  uint8_t scale[16], part_min[8];  // by part; exponent: scale[0]
};

void copy2(const uint8_t* from, uint8_t* to) { to[0] = from[0], to[1] = from[1]; }
// 32 codes from 16 bytes.
void nibbles(const uint8_t* q, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) codes[i] = q[i] & 15, codes[16 + i] = q[i] >> 4;
}
// The fifth bits of 32 codes.
void fifth_bits(const uint8_t* high, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] |= uint8_t((high[i / 8] >> i % 8 & 1) << 4);
}
// 64 codes from 32 bytes: the low halves first.
void nibbles64(const uint8_t* q, uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = q[i] & 15;
  for (int i = 0; i < 32; ++i) codes[32 + i] = q[i] >> 4;
}
// 128 codes of two bits from 32 bytes.
void crumbs(const uint8_t* q, uint8_t* codes) {
  for (int k = 0; k < 4; ++k)
    for (int i = 0; i < 32; ++i) codes[32 * k + i] = q[i] >> 2 * k & 3;
}

template <DType T>
void split(const uint8_t* b, Parts& p) {
  using enum DType;
  if constexpr (T == q8_0) {
    copy2(b, p.d);
    for (int i = 0; i < 32; ++i) p.codes[i] = uint8_t(b[2 + i] + form_of(T).offset());
  } else if constexpr (T == q4_0 || T == iq4_nl) {
    copy2(b, p.d), nibbles(b + 2, p.codes);
  } else if constexpr (T == mxfp4) {
    p.scale[0] = b[0], nibbles(b + 1, p.codes);
  } else if constexpr (T == q4_1) {
    copy2(b, p.d), copy2(b + 2, p.min), nibbles(b + 4, p.codes);
  } else if constexpr (T == q5_0) {
    copy2(b, p.d), nibbles(b + 6, p.codes), fifth_bits(b + 2, p.codes);
  } else if constexpr (T == q5_1) {
    copy2(b, p.d), copy2(b + 2, p.min), nibbles(b + 8, p.codes), fifth_bits(b + 4, p.codes);
  } else if constexpr (T == q2_k) {
    copy2(b + 80, p.d), copy2(b + 82, p.min);
    for (int i = 0; i < 16; ++i) p.scale[i] = b[i];
    for (int h = 0; h < 2; ++h) crumbs(b + 16 + 32 * h, p.codes + 128 * h);
  } else if constexpr (T == q3_k) {
    copy2(b + 108, p.d);
    for (int i = 0; i < 16; ++i) p.scale[i] = uint8_t(scale_k3(b + 96, i));
    for (int h = 0; h < 2; ++h) crumbs(b + 32 + 32 * h, p.codes + 128 * h);
    for (int k = 0; k < 8; ++k)
      for (int i = 0; i < 32; ++i) p.codes[32 * k + i] |= uint8_t((b[i] >> k & 1) << 2);
  } else if constexpr (T == q4_k || T == q5_k) {
    copy2(b, p.d), copy2(b + 2, p.min);
    for (int j = 0; j < 8; ++j) {
      const ScaleMin s = scale_min_k4(b + 4, j);
      p.scale[j] = s.scale, p.part_min[j] = s.min;
    }
    const uint8_t* q = b + (T == q5_k ? 48 : 16);
    for (int j = 0; j < 4; ++j) nibbles64(q + 32 * j, p.codes + 64 * j);
    if constexpr (T == q5_k)
      for (int k = 0; k < 8; ++k)
        for (int i = 0; i < 32; ++i) p.codes[32 * k + i] |= uint8_t((b[16 + i] >> k & 1) << 4);
  } else if constexpr (T == q6_k) {
    copy2(b + 208, p.d);
    for (int i = 0; i < 16; ++i) p.scale[i] = b[192 + i];
    for (int h = 0; h < 2; ++h) {  // 128 each: 64 low halves, then 64 high ones
      uint8_t* codes = p.codes + 128 * h;
      for (int i = 0; i < 64; ++i) codes[i] = b[64 * h + i] & 15;
      for (int i = 0; i < 64; ++i) codes[64 + i] = b[64 * h + i] >> 4;
      for (int k = 0; k < 4; ++k)
        for (int i = 0; i < 32; ++i) codes[32 * k + i] |= uint8_t((b[128 + 32 * h + i] >> 2 * k & 3) << 4);
    }
  } else if constexpr (T == iq4_xs) {
    copy2(b, p.d);
    const uint16_t high = uint16_t(b[2] | b[3] << 8);
    for (int i = 0; i < 8; ++i) p.scale[i] = uint8_t(scale_iq4_xs(high, b + 4, i));
    for (int i = 0; i < 8; ++i) nibbles(b + 8 + 16 * i, p.codes + 32 * i);
  }
}

template <DType T>
void write_head(const Parts& p, int o, uint8_t* head) {
  constexpr Form f = form_of(T);
  if constexpr (f.scales == Scales::exponent) {
    head[o] = p.scale[0];
    return;
  }
  copy2(p.d, head + 2 * o);
  if constexpr (f.has_min()) copy2(p.min, head + 2 * (kPanel + o));
  if constexpr (f.scales == Scales::parts)
    for (int i = 0; i < 8 * f.halves; ++i) head[kPanel * (2 + i) + o] = p.scale[i];
  if constexpr (f.scales == Scales::parts_min)
    for (int i = 0; i < 8; ++i) {
      head[kPanel * (4 + i) + o] = p.scale[i];
      head[kPanel * (12 + i) + o] = p.part_min[i];
    }
  if constexpr (f.scales == Scales::nibbles)
    for (int i = 0; i < 16; ++i) head[kPanel * (4 + i) + o] = p.scale[i];
}

// The 32 codes of one output into the planes of its lanes.
template <int low, int high>
void write_codes(const uint8_t* codes, int lane, uint8_t* planes) {
  uint32_t q[8];
  std::memcpy(q, codes, sizeof q);
  auto put = [&](int plane, uint32_t bytes) { std::memcpy(planes + plane * kUnit + 4 * lane, &bytes, 4); };
  if constexpr (low == 8)
    for (int g = 0; g < 8; ++g) put(g, q[g]);
  constexpr uint32_t kLow = 0x01010101u * ((1 << low % 8) - 1);
  if constexpr (low == 4)
    for (int j = 0; j < 4; ++j) put(j, (q[j] & kLow) | (q[j + 4] & kLow) << 4);
  auto fours = [&](int plane, int shift) {
    for (int j = 0; j < 2; ++j) {
      uint32_t bytes = 0;
      for (int k = 0; k < 4; ++k) bytes |= (q[4 * j + k] >> shift & 0x03030303u) << 2 * k;
      put(plane + j, bytes);
    }
  };
  if constexpr (low == 2) fours(0, 0);
  if constexpr (high == 2) fours(low, low);
  if constexpr (high == 1) {
    uint32_t bytes = 0;
    for (int g = 0; g < 8; ++g) bytes |= (q[g] >> low & 0x01010101u) << g;
    put(low, bytes);
  }
}

// Code i of 32 of one output.
int read_code(const Form& f, const uint8_t* planes, int lane, int i) {
  const int g = i / 4;
  auto byte = [&](int plane) { return planes[plane * kUnit + 4 * lane + i % 4]; };
  int code = f.low == 8 ? byte(g) : f.low == 4 ? byte(g % 4) >> 4 * (g / 4) & 15 : byte(g / 4) >> 2 * (g % 4) & 3;
  if (f.high == 2) code |= (byte(f.low + g / 4) >> 2 * (g % 4) & 3) << f.low;
  if (f.high == 1) code |= (byte(f.low) >> g & 1) << f.low;
  return code;
}

float half_at(const uint8_t* p) { return to_float(f16_t{uint16_t(p[0] | p[1] << 8)}); }

}  // namespace

void pack_quantised(DType type, const uint8_t* rows, int64_t row_bytes, int n, int64_t in, uint8_t* to) {
  with_blocks(type, [&](auto t) {
    constexpr DType T = decltype(t)::value;
    constexpr Form f = form_of(T);
    constexpr int kBlock = int(dtype_block(T)), kCodes = kUnit * f.planes();  // of 32 inputs and kLanes outputs
    if (n < kPanel) std::memset(to, 0, in / kBlock * packed_block_bytes(T));
    for (int64_t k = 0; k < in; k += kBlock, rows += dtype_bytes(T, kBlock), to += packed_block_bytes(T)) {
      uint8_t* codes = to + kPanel * head_bytes(f);
      for (int o = 0; o < n; ++o) {
        Parts p;
        split<T>(rows + o * row_bytes, p);
        write_head<T>(p, o, to);
        for (int b = 0; b < kBlock / 32; ++b)
          write_codes<f.low, f.high>(p.codes + 32 * b, o % kLanes, codes + (b * kTileVectors + o / kLanes) * kCodes);
      }
    }
  });
}

void read_quantised(DType type, const uint8_t* panel, int o, int64_t in, float* out) {
  with_blocks(type, [&](auto t) {
    constexpr DType T = decltype(t)::value;
    constexpr Form f = form_of(T);
    constexpr int kBlock = int(dtype_block(T)), kCodes = kUnit * f.planes(), kEach = 32 / f.halves;
    const uint8_t* byte = panel + o;  // of a row of the head, as half is
    const uint8_t* half = panel + 2 * o;
    for (int64_t k = 0; k < in; k += kBlock, byte += packed_block_bytes(T), half += packed_block_bytes(T)) {
      const uint8_t* codes = byte - o + kPanel * head_bytes(f) + o / kLanes * kCodes;
      const float d = f.scales == Scales::exponent ? 0 : half_at(half);
      const float dmin = f.has_min() ? half_at(half + 2 * kPanel) : 0;
      for (int part = 0; part < kBlock / kEach; ++part) {
        float scale = d, min = -dmin;
        if constexpr (f.scales == Scales::exponent)
          scale = bits_to_float(*byte >= 2 ? (*byte - 1u) << 23 : 1u << (21 + *byte));
        if constexpr (f.scales == Scales::parts) scale = d * float(int8_t(byte[kPanel * (2 + part)]));
        if constexpr (f.scales == Scales::parts_min)
          scale = d * float(byte[kPanel * (4 + part)]), min = dmin * float(byte[kPanel * (12 + part)]);
        if constexpr (f.scales == Scales::nibbles) {
          const uint8_t both = byte[kPanel * (4 + part)];
          scale = d * float(both & 15), min = dmin * float(both >> 4);
        }
        for (int i = part * kEach; i < (part + 1) * kEach; ++i) {
          const int code = read_code(f, codes + i / 32 * kTileVectors * kCodes, o % kLanes, i % 32);
          const int lies = f.table ? table_code(T, code) : code;
          const int value = (kSignedCodes ? int8_t(lies) : lies) - f.offset();
          out[k + i] = scale * float(value);
          if constexpr (f.has_min()) out[k + i] -= min;
        }
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
