#include "backend/cpu_tables.h"
#include "core/conversions.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {
namespace {

template <class Half>
void widen(const Half* from, int64_t count, float* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = to_float(from[i]);
}

template <class Half>
void narrow(const float* from, int64_t count, Half* to) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) store(to + i, load(from + i));
  for (; i < count; ++i) from_float(from[i], to[i]);
}

}  // namespace

void search_block(DType type, const float* x, const float* importance, uint8_t* out);

Conversions conversions() {
  return {[](const void* from, DType type, int64_t count, float* to) {
            type == DType::bf16 ? widen(static_cast<const bf16_t*>(from), count, to)
                                : widen(static_cast<const f16_t*>(from), count, to);
          },
          [](const float* from, int64_t count, DType type, void* to) {
            type == DType::bf16 ? narrow(from, count, static_cast<bf16_t*>(to))
                                : narrow(from, count, static_cast<f16_t*>(to));
          },
          search_block};
}

}  // namespace statespace::STATESPACE_ISA
