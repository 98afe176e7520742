#pragma once
// Stores that pass the caches by, for results far larger than these: what is there is not read first, which is a third
// of the traffic of a matrix written beside one that is read. Where a machine has none of them they are stores.
//   streams(p, stride): whether rows of `stride` floats from p on may be written so
//   stream(p, v) at a whole vector's address   end_streams(): before another thread may read
#if defined(STATESPACE_ISA_AVX512) || defined(STATESPACE_ISA_AVX2)
#include <immintrin.h>
#endif

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_ISA_AVX512) || defined(STATESPACE_ISA_AVX2)
inline bool streams(const float* p, int64_t stride) {
  return reinterpret_cast<uintptr_t>(p) % (kLanes * sizeof(float)) == 0 && stride % kLanes == 0;
}
inline void end_streams() { _mm_sfence(); }
#else
inline bool streams(const float*, int64_t) { return false; }
inline void end_streams() {}
#endif

#if defined(STATESPACE_ISA_AVX512)
inline void stream(float* p, F x) { _mm512_stream_ps(p, x.v); }
#elif defined(STATESPACE_ISA_AVX2)
inline void stream(float* p, F x) { _mm256_stream_ps(p, x.v); }
#else
inline void stream(float* p, F x) { store(p, x); }
#endif

}  // namespace statespace::STATESPACE_ISA
