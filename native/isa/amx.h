#pragma once
// Tiles of 16 rows by 64 bytes and their products of bf16 pairs and of bytes, as two types with the same functions:
// AmxTiles on the machine's unit (Intel, "Intel Architecture Instruction Set Extensions", chapter 3), EmulatedTiles in
// memory.
//
//   begin() configures the unit for this thread, end() frees it;  T, C, A, B are tile numbers 0 … 7
//   zero<T>()   load<T>(p, stride)   store<T>(p, stride)     stride in bytes between rows
//   dot<C, A, B>(): C (16, 16) f32 += A (16, 32) · B, which lies as (16 pairs of rows, 16 columns, 2)
//   begin_bytes(groups) begins with shapes for dot_bytes<C, A, B>(): C (16, 16) int32 += A (16, 4·groups) int8 · B,
//   which lies as (groups, 16 columns, 4) of uint8; C is tile 0 or 3, A 1 or 4, B 2 or 5
#include <cstring>

#include "isa/simd.h"

#if defined(STATESPACE_ISA_AVX512) && defined(__GNUC__)
#define STATESPACE_TILES

namespace statespace::STATESPACE_ISA {

constexpr int kTileBytes = 64, kTileDepth = 32, kTileSide = 16;

// The instructions are written out: gcc 12's _tile_loadconfig names 8 of the 64 bytes that it reads, and its other
// macros take no template argument for a tile's number.
struct AmxTiles {
  struct Config {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
  static void begin() {
    alignas(64) static const Config config;
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void begin_bytes(int groups) {
    alignas(64) Config config;
    for (int a = 1; a < 6; a += 3) config.row_bytes[a] = uint16_t(4 * groups), config.rows[a + 1] = uint8_t(groups);
    asm volatile("ldtilecfg %0" ::"m"(config));
  }
  static void end() { asm volatile("tilerelease"); }
  template <int T>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(T));
  }
  template <int T>
  static void load(const void* p, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "i"(T) : "memory");
  }
  template <int T>
  static void store(void* p, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "i"(T) : "memory");
  }
  template <int C, int A, int B>
  static void dot() {
    asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" ::"i"(B), "i"(A), "i"(C));
  }
  template <int C, int A, int B>
  static void dot_bytes() {
    asm volatile("tdpbsud %%tmm%c0, %%tmm%c1, %%tmm%c2" ::"i"(B), "i"(A), "i"(C));
  }
};

struct EmulatedTiles {
  static inline thread_local uint8_t tiles[8][kTileSide * kTileBytes];
  static inline thread_local int groups;  // 0: all tiles are whole
  static void begin() { begin_bytes(0); }
  static void begin_bytes(int count) {
    std::memset(tiles, 0xff, sizeof(tiles));  // NaN until loaded
    groups = count;
  }
  static void end() {}
  static int rows(int tile) { return groups && tile % 3 == 2 ? groups : kTileSide; }
  static int row_bytes(int tile) { return groups && tile % 3 == 1 ? 4 * groups : kTileBytes; }
  template <int T>
  static void zero() {
    std::memset(tiles[T], 0, sizeof(tiles[T]));
  }
  template <int T>
  static void load(const void* p, int64_t stride) {
    zero<T>();
    for (int r = 0; r < rows(T); ++r)
      std::memcpy(tiles[T] + r * kTileBytes, static_cast<const uint8_t*>(p) + r * stride, row_bytes(T));
  }
  template <int T>
  static void store(void* p, int64_t stride) {
    for (int r = 0; r < kTileSide; ++r)
      std::memcpy(static_cast<uint8_t*>(p) + r * stride, tiles[T] + r * kTileBytes, kTileBytes);
  }
  template <int C, int A, int B>
  static void dot() {
    float a[kTileSide][kTileDepth], b[kTileDepth][kTileSide], c[kTileSide][kTileSide];
    auto half = [](int tile, int row, int column) {
      bf16_t x;
      std::memcpy(&x, tiles[tile] + row * kTileBytes + column * 2, 2);
      return to_float(x);
    };
    for (int m = 0; m < kTileSide; ++m)
      for (int k = 0; k < kTileDepth; ++k) a[m][k] = half(A, m, k), b[k][m] = half(B, k / 2, 2 * m + k % 2);
    std::memcpy(c, tiles[C], sizeof(c));
    for (int m = 0; m < kTileSide; ++m)
      for (int k = 0; k < kTileDepth; ++k)
        for (int n = 0; n < kTileSide; ++n) c[m][n] += a[m][k] * b[k][n];
    std::memcpy(tiles[C], c, sizeof(c));
  }
  template <int C, int A, int B>
  static void dot_bytes() {
    static_assert(C % 3 == 0 && A % 3 == 1 && B % 3 == 2);
    int32_t c[kTileSide][kTileSide];
    std::memcpy(c, tiles[C], sizeof(c));
    for (int m = 0; m < kTileSide; ++m)
      for (int g = 0; g < rows(B); ++g) {
        const uint8_t *a = tiles[A] + m * kTileBytes + 4 * g, *b = tiles[B] + g * kTileBytes;
        for (int n = 0; n < kTileSide; ++n)
          for (int i = 0; i < 4; ++i) c[m][n] += int32_t(int8_t(a[i])) * b[4 * n + i];
      }
    std::memcpy(tiles[C], c, sizeof(c));
  }
};

}  // namespace statespace::STATESPACE_ISA
#endif
