#include "core/quantise.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/blocks.h"
#include "core/conversions.h"
#include "core/halves.h"

namespace statespace {
namespace {

void put_half(uint8_t* to, float x) {
  const uint16_t bits = f32_to_f16(x);
  std::memcpy(to, &bits, 2);
}
// One code per value in the low bits of 16 bytes, the second half of the values in the high ones.
void put_nibbles(const uint8_t* codes, uint8_t* to) {
  for (int i = 0; i < 16; ++i) to[i] = uint8_t((codes[i] & 15) | (codes[i + 16] & 15) << 4);
}
void put_fifth_bits(const uint8_t* codes, uint8_t* to) {
  uint32_t bits = 0;
  for (int i = 0; i < 32; ++i) bits |= uint32_t(codes[i] >> 4 & 1) << i;
  std::memcpy(to, &bits, 4);
}
float largest_magnitude(const float* x, int n) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}
float inverse_of(float d) { return d == 0 ? 0 : 1 / d; }

// d = max|x| / 127, then x / d to the nearest, halves away from zero.
void q8_0(const float* x, uint8_t* out) {
  const float d = largest_magnitude(x, 32) / 127, inverse = inverse_of(d);
  put_half(out, d);
  for (int i = 0; i < 32; ++i) out[2 + i] = uint8_t(int8_t(std::round(x[i] * inverse)));
}

// d = (the first value of largest magnitude) / -half, so that it becomes code 0; then x / d + half, halves up.
float signed_codes(const float* x, int half, uint8_t* codes) {
  float extreme = 0;
  for (int i = 0; i < 32; ++i)
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  const float d = extreme / float(-half), inverse = inverse_of(d);
  for (int i = 0; i < 32; ++i)
    codes[i] = uint8_t(std::clamp(int(x[i] * inverse + (float(half) + 0.5f)), 0, 2 * half - 1));
  return d;
}
void q4_0(const float* x, uint8_t* out) {
  uint8_t codes[32];
  put_half(out, signed_codes(x, 8, codes));
  put_nibbles(codes, out + 2);
}
void q5_0(const float* x, uint8_t* out) {
  uint8_t codes[32];
  put_half(out, signed_codes(x, 16, codes));
  put_fifth_bits(codes, out + 2), put_nibbles(codes, out + 6);
}

// d = (max - min) / most, then (x - min) / d, halves up. Writes d and min.
void offset_codes(const float* x, int most, uint8_t* out, uint8_t* codes) {
  const auto [min, max] = std::minmax_element(x, x + 32);
  const float d = (*max - *min) / float(most), inverse = inverse_of(d);
  for (int i = 0; i < 32; ++i) codes[i] = uint8_t(std::clamp(int((x[i] - *min) * inverse + 0.5f), 0, most));
  put_half(out, d), put_half(out + 2, *min);
}
void q4_1(const float* x, uint8_t* out) {
  uint8_t codes[32];
  offset_codes(x, 15, out, codes);
  put_nibbles(codes, out + 4);
}
void q5_1(const float* x, uint8_t* out) {
  uint8_t codes[32];
  offset_codes(x, 31, out, codes);
  put_fifth_bits(codes, out + 4), put_nibbles(codes, out + 8);
}

// A power of two that brings the largest value to [4, 8), then the nearest of the values that four bits stand for.
void mxfp4(const float* x, uint8_t* out) {
  const float largest = largest_magnitude(x, 32);
  int exponent = 0;
  std::frexp(largest, &exponent);  // largest in [2^(exponent-1), 2^exponent)
  out[0] = uint8_t(largest > 0 ? std::clamp(exponent - 1 - 2 + 127, 0, 254) : 0);
  const float d = std::ldexp(1.f, int(out[0]) - 128);
  uint8_t codes[32];
  for (int i = 0; i < 32; ++i) {
    codes[i] = 0;
    float least = std::fabs(x[i]);
    for (int c = 1; c < 16; ++c)
      if (const float error = std::fabs(float(kMxfp4Values[c]) * d - x[i]); error < least)
        least = error, codes[i] = uint8_t(c);
  }
  put_nibbles(codes, out + 1);
}

// -1, 0 and 1 of the largest magnitude.
float ternary_codes(const float* x, uint8_t* codes) {
  const float d = largest_magnitude(x, 256), inverse = inverse_of(d);
  for (int i = 0; i < 256; ++i) codes[i] = uint8_t(int(std::round(x[i] * inverse)) + 1);
  return d;
}
void tq2_0(const float* x, uint8_t* out) {
  uint8_t codes[256];
  put_half(out + 64, ternary_codes(x, codes));
  std::memset(out, 0, 64);
  for (int e = 0; e < 256; ++e) out[32 * (e / 128) + e % 32] |= uint8_t(codes[e] << 2 * (e % 128 / 32));
}
// Five digits of base 3 a byte, as a fraction of 243 in 256.
void tq1_0(const float* x, uint8_t* out) {
  uint8_t codes[256];
  put_half(out + 52, ternary_codes(x, codes));
  const uint8_t* from = codes;
  const auto pack = [&](int count, int each) {
    for (int i = 0; i < count; ++i) {
      int number = 0;
      for (int k = 0; k < 5; ++k) number = 3 * number + (k < each ? from[k * count + i] : 0);
      *out++ = uint8_t((number * 256 + 242) / 243);
    }
    from += count * each;
  };
  pack(32, 5), pack(16, 5), pack(4, 4);
}

}  // namespace

void encode_blocks(DType type, const float* x, int64_t count, const float* importance, uint8_t* out) {
  if (!is_quantised(type)) {
    for (int64_t i = 0; i < count; ++i) write_float(out, type, i, x[i]);
    return;
  }
  const int64_t block = dtype_block(type), bytes = dtype_bytes(type, block);
  const auto plain = [&](auto encode) {
    for (int64_t i = 0; i < count; i += block, out += bytes) encode(x + i, out);
  };
  switch (type) {
    case DType::q8_0:
      return plain(q8_0);
    case DType::q4_0:
      return plain(q4_0);
    case DType::q4_1:
      return plain(q4_1);
    case DType::q5_0:
      return plain(q5_0);
    case DType::q5_1:
      return plain(q5_1);
    case DType::mxfp4:
      return plain(mxfp4);
    case DType::tq1_0:
      return plain(tq1_0);
    case DType::tq2_0:
      return plain(tq2_0);
    default:  // is_encoded() said so
      const auto search = conversions().search_block;
      for (int64_t i = 0; i < count; i += block, out += bytes)
        search(type, x + i, importance ? importance + i : nullptr, out);
  }
}

void encode_within_q4_0(const float* x, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i < count; i += 32, x += 32, out += 18) {
    float step = 0;  // the least that is not 0, of which all are multiples
    bool finite = true;
    for (int j = 0; j < 32; ++j) {
      const float size = std::fabs(x[j]);
      finite = finite && std::isfinite(size);
      if (size > 0 && (step == 0 || size < step)) step = size;
    }
    put_half(out, finite ? step : NAN);
    uint8_t codes[32];
    for (int j = 0; j < 32; ++j) codes[j] = uint8_t(8 + (finite && step > 0 ? int(x[j] / step) : 0));
    put_nibbles(codes, out + 2);
  }
}

}  // namespace statespace
