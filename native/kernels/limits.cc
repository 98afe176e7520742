// The limits of one instruction set. Twelve chains: more than latency times ports (8 to 10) on every machine of the
// last ten years, and few enough for sixteen registers.
#include "core/limits.h"

#include "backend/cpu_tables.h"
#include "isa/simd.h"

#define STATESPACE_STRING_(x) #x
#define STATESPACE_STRING(x) STATESPACE_STRING_(x)

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int kChains = 12;

double multiply_add(int64_t steps, float* sink) {
  F chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = set(*sink + float(i));
  const F factor = set(0.999f), addend = set(1e-3f);
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = fma(chain[i], factor, addend);
  }
  F total = zero();
  for (int i = 0; i < kChains; ++i) total = total + chain[i];
  *sink = sum(total);
  return double(steps) * kChains * kLanes * 2;
}

#if defined(STATESPACE_ISA_AVX512)
__attribute__((target("avx512bf16"))) double dot_bf16(int64_t steps, float* sink) {
  __m512 chain[kChains];
  for (int i = 0; i < kChains; ++i) chain[i] = _mm512_set1_ps(*sink + float(i));
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1e-3f), _mm512_set1_ps(2e-3f));
  const __m512bh b = _mm512_cvtne2ps_pbh(_mm512_set1_ps(3e-3f), _mm512_set1_ps(-1e-3f));
  for (int64_t step = 0; step < steps; ++step) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) chain[i] = _mm512_dpbf16_ps(chain[i], a, b);
  }
  __m512 total = _mm512_setzero_ps();
  for (int i = 0; i < kChains; ++i) total = _mm512_add_ps(total, chain[i]);
  *sink = _mm512_reduce_add_ps(total);
  return double(steps) * kChains * kLanes * 4;
}
bool has_dot_bf16() { return __builtin_cpu_supports("avx512bf16"); }
#else
constexpr double (*dot_bf16)(int64_t, float*) = nullptr;
bool has_dot_bf16() { return false; }
#endif

constexpr int kStreams = 8;

float read(const float* p, int64_t count) {
  F total[kStreams];
  for (F& t : total) t = zero();
  int64_t i = 0;
  for (; i + kStreams * kLanes <= count; i += kStreams * kLanes) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) total[s] = total[s] + load(p + i + s * kLanes);
  }
  for (int s = 1; s < kStreams; ++s) total[0] = total[0] + total[s];
  float rest = sum(total[0]);
  for (; i < count; ++i) rest += p[i];
  return rest;
}

void copy(float* to, const float* from, int64_t count) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

}  // namespace

Limits limits() { return {STATESPACE_STRING(STATESPACE_ISA), multiply_add, dot_bf16, has_dot_bf16, read, copy}; }

}  // namespace statespace::STATESPACE_ISA
