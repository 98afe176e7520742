#pragma once
// How the real selective scan's gradient cuts its work, and where a thread keeps what of it.
#include <cstdint>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA::selective_scan_gradient {

// Tokens whose states exist at once; of a longer sequence the state at each piece's start is kept. Short pieces leave
// decays and states in the first-level cache, long ones keep fewer states where a channel has many.
constexpr int64_t kLeastPiece = 32, kMostPiece = 128;
// States of a vector of channels that pass over a piece together: what they give dB and dC is summed across lanes at
// once.
constexpr int kStates = kLanes > 1 ? kLanes / 2 : 1;
// Tokens whose sums across lanes are taken at once.
constexpr int kTogether = kLanes / kStates;
// Parts of the channels of a group, each with sums of its own for dB and dC. A constant, so that they are the same on
// any number of threads.
constexpr int64_t kMostParts = 8;
// How far ahead rows are fetched.
constexpr int64_t kAhead = 8;

// Sizes of a thread's memory. `width`: its channels, each part filled up to whole vectors.
struct Layout {
  int64_t piece, states, pieces, width;
  int64_t rows() const { return piece * width; }
  int64_t floats() const { return 6 * rows() + 2 * width; }
  // Of each vector: (d_state, kLanes) of coefficients and sums, and the states at the pieces' starts.
  int64_t vector_floats() const { return kLanes * (7 + pieces) * states; }
};

// A thread's rows of a piece, (piece, width), and sums (width).
struct Rows {
  float *dt, *input, *g, *fed, *kept, *y, *dD, *dbias;
  Rows(float* p, const Layout& l)
      : dt(p),
        input(dt + l.rows()),
        g(input + l.rows()),
        fed(g + l.rows()),
        kept(fed + l.rows()),
        y(kept + l.rows()),
        dD(y + l.rows()),
        dbias(dD + l.width) {}
};

// One vector of channels [first, first + count), `at` in the thread's rows, and its memory.
struct Channels {
  int64_t first, at;
  int count;
  float *A, *carry, *constant_B, *constant_C, *dA, *dB, *dC, *starts;
  Channels(int64_t first, int64_t at, int count, float* p, int64_t size)
      : first(first),
        at(at),
        count(count),
        A(p),
        carry(p + size),
        constant_B(p + 2 * size),
        constant_C(p + 3 * size),
        dA(p + 4 * size),
        dB(p + 5 * size),
        dC(p + 6 * size),
        starts(p + 7 * size) {}
};

// Channels whose sums for dB and dC are their own, and those: (2, states / kStates, tokens, kStates), dB before dC.
struct Part {
  int64_t first, channels, B_group, C_group;
  float* sums;
};

// What the vectors of a thread share: decays and states of some states over a piece; B and C of the piece (tokens,
// states) filled up with zeros.
struct Shared {
  float *a, *h, *B, *C;
  static int64_t floats(const Layout& l) { return kLanes * (2 * l.piece + 1) * kStates + 2 * l.piece * l.states; }
  Shared(float* p, const Layout& l)
      : a(p), h(a + l.piece * kStates * kLanes), B(h + (l.piece + 1) * kStates * kLanes), C(B + l.piece * l.states) {}
};

}  // namespace statespace::STATESPACE_ISA::selective_scan_gradient
