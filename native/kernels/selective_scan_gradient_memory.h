#pragma once
// How the real selective scan's gradient cuts its work, and where a thread keeps what of it.
#include <cstdint>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA::selective_scan_gradient {

// States of a vector of channels that pass over a piece together: what they give dB and dC is summed across lanes at
// once.
constexpr int kStates = kLanes > 1 ? kLanes / 2 : 1;
// Tokens whose sums across lanes are taken at once.
constexpr int kTogether = kLanes / kStates;
// Parts of the channels of a group, each with sums of its own for dB and dC. A constant, so that they are the same on
// any number of threads.
constexpr int64_t kMostParts = 8;
// What a vector of channels keeps of each token of a piece: dt, dt·u, g, the derivatives of softplus and (times dy) of
// silu, Σ_n λB, Σ_n A q / log2(e) and C·h.
enum Row : int { kDt, kInput, kG, kSlope, kGate, kFed, kKept, kY, kRows };

// Sizes of a thread's memory. `starts`: states at pieces' starts that exist at once, of each of its vectors.
struct Layout {
  int64_t piece, states, starts, vectors;
  int64_t row_floats() const { return piece * kLanes; }
  int64_t state_floats() const { return states * kLanes; }
  int64_t vector_floats() const { return (7 + starts) * state_floats() + 2 * kLanes; }
};

// One vector of channels [first, first + count): coefficients and sums (states, kLanes), and as many for each start.
struct Channels {
  int64_t first;
  int count;
  float *A, *carry, *constant_B, *constant_C, *dA, *dB, *dC, *starts, *dD, *dbias;
  Channels(int64_t first, int count, float* p, const Layout& l) : first(first), count(count), dD(p), dbias(p + kLanes) {
    p += 2 * kLanes;
    for (float** to : {&A, &carry, &constant_B, &constant_C, &dA, &dB, &dC, &starts}) *to = p, p += l.state_floats();
  }
};

// Channels whose sums for dB and dC are their own, and those: (2, states / kStates, tokens, kStates), dB before dC.
struct Part {
  int64_t first, channels, B_group, C_group;
  float* sums;
};

// What the vectors of a thread share: rows of a piece (kRows, piece, kLanes); decays and states of some states over it;
// B and C of it (tokens, states), filled up with zeros.
struct Shared {
  float *rows, *a, *h, *B, *C;
  static int64_t floats(const Layout& l) {
    return kRows * l.row_floats() + kLanes * (2 * l.piece + 1) * kStates + 2 * l.piece * l.states;
  }
  Shared(float* p, const Layout& l)
      : rows(p),
        a(p + kRows * l.row_floats()),
        h(a + l.piece * kStates * kLanes),
        B(h + (l.piece + 1) * kStates * kLanes),
        C(B + l.piece * l.states) {}
};

}  // namespace statespace::STATESPACE_ISA::selective_scan_gradient
