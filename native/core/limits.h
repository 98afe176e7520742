#pragma once
// What this machine can do at most: loops that do one thing and nothing else. Benchmarks divide by their rates.
#include <cstdint>

namespace statespace {

struct Limits {
  const char* isa;
  // Independent multiply-adds in registers, `steps` rounds of them. Returns the floating-point operations done; the
  // sum goes to `sink`, so that the compiler keeps the loop.
  double (*multiply_add)(int64_t steps, float* sink);
  // The same with products of bf16 pairs added in f32; nullptr where the instruction set has none.
  double (*dot_bf16)(int64_t steps, float* sink);
  // Whether this very machine has them.
  bool (*has_dot_bf16)();
  float (*read)(const float* p, int64_t count);
  void (*copy)(float* to, const float* from, int64_t count);
};

}  // namespace statespace
