#include "ops/selective_scan.h"

#include <algorithm>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rate.h"
#include "kernels/selective_scan_real.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// e^x of one float through the vector form, so that every lane count rounds alike.
inline float exp1(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, exp(set(x)));
  return lanes[0];
}
inline float softplus1(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, softplus(set(x)));
  return lanes[0];
}

// Channels of a piece of work: whole cache lines, enough to be worth it; bytes of its buffers, for a second-level
// cache.
constexpr int64_t kLine = 16, kLeast = 64, kBufferBytes = 512 << 10;

// One piece for each thread where its buffers fit: rows are then read in long runs. Pieces of 128 of 1,024 channels,
// whose rows lie 4 KB apart, look each page up eight times and took 1.3 times as long at 16,384 tokens.
int64_t piece_width(int64_t channels, int64_t d_state, int threads) {
  const int64_t bytes = selective_scan::Buffers::floats(1, d_state, false) * int64_t(sizeof(float));
  const int64_t most = std::max(kLeast, kBufferBytes / bytes / kLine * kLine);
  const int64_t rounds = ceil_div(channels, most * threads);
  return std::clamp(ceil_div(ceil_div(channels, rounds * threads), kLine) * kLine, kLeast, most);
}

// Where complex B or C of one token and channel starts.
struct Coefficients {
  Coefficients(const Tensor& t, bool constant, int64_t d_inner)
      : t(t),
        constant(constant),
        channels_per_group(constant ? 1 : d_inner / t[1]),
        width((constant ? t[1] : t[2]) * 2) {}
  const float* at(int64_t token, int64_t channel) const {
    return constant ? t.row(channel) : t.row(token) + channel / channels_per_group * width;
  }
  const Tensor& t;
  const bool constant;
  const int64_t channels_per_group;
  const int64_t width;
};

// One channel of one sequence, A, B, C, h of pairs [re, im]: h = exp(dt·A) h + dt·B·u, y = 2·Re(C·h).
void scan_complex(const SelectiveScan& op, const Coefficients& B, const Coefficients& C, int64_t begin, int64_t end,
                  int64_t d, float* h, const Context& cx) {
  const int64_t n_state = op.A[1];
  const float* A = op.A.row(d);
  for (int64_t t = begin; t < end; ++t) {
    cx.check_stop();
    const float u = op.u.row(t)[d];
    float dt = op.delta.row(t)[d] + (op.delta_bias ? op.delta_bias.f32()[d] : 0.f);
    if (op.delta_softplus) dt = softplus1(dt);
    const float *b = B.at(t, d), *c = C.at(t, d);
    float y = 0;
    for (int64_t n = 0; n < n_state; ++n) {
      const float size = exp1(dt * finite_rate(A[2 * n])), angle = dt * A[2 * n + 1];
      const float re = size * std::cos(angle), im = size * std::sin(angle);
      const float h_re = re * h[2 * n] - im * h[2 * n + 1] + dt * u * b[2 * n];
      const float h_im = re * h[2 * n + 1] + im * h[2 * n] + dt * u * b[2 * n + 1];
      h[2 * n] = h_re, h[2 * n + 1] = h_im;
      y += c[2 * n] * h_re - c[2 * n + 1] * h_im;
    }
    float out = 2 * y + (op.D ? op.D.f32()[d] * u : 0.f);
    if (op.z) {
      const float z = op.z.row(t)[d];
      out *= z / (1 + exp1(-z));
    }
    op.y.row(t)[d] = out;
  }
}

void run_complex(const SelectiveScan& op, const Sequences& sequences, Context& cx) {
  const int64_t d_inner = op.u[1];
  const Coefficients B(op.B, op.constant(op.B), d_inner), C(op.C, op.constant(op.C), d_inner);
  cx.parallel_for(sequences.count * d_inner, [&](int64_t i, int) {
    const int64_t s = i / d_inner, d = i % d_inner;
    float* h = op.state.row(sequences.slot(s)) + d * op.A[1] * 2;
    scan_complex(op, B, C, sequences.begin(s), sequences.end(s), d, h, cx);
  });
}

void run_real(const SelectiveScan& op, const Sequences& sequences, Context& cx) {
  using namespace selective_scan;
  const int64_t d_inner = op.u[1], d_state = op.A[1];
  const int64_t ngroups = !op.constant(op.B) ? op.B[1] : !op.constant(op.C) ? op.C[1] : 1;
  const int64_t per_group = d_inner / ngroups;
  const int64_t width = piece_width(per_group * ngroups * sequences.count, d_state, cx.threads());
  const int64_t blocks = ceil_div(per_group, width), pieces = ngroups * blocks;
  const bool halves = reads_halves(op);
  cx.parallel_stretches(sequences.count * pieces, [&](int64_t i, int worker) {
    const int64_t s = i / pieces, group = i % pieces / blocks, offset = i % blocks * width;
    const int64_t left = per_group - offset;
    const Block block{group * per_group + offset, left < width ? left : width, group};
    float* h = op.state.row(sequences.slot(s)) + block.first * d_state;
    const Buffers buffers(cx.local<float>(worker, Buffers::floats(width, d_state, halves)), width, d_state);
    scan_block(op, block, sequences.begin(s), sequences.end(s), h, buffers, cx);
  });
}

}  // namespace

template <>
void run(const SelectiveScan& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.u[0]);
  if (sequences.count == 0 || op.u[1] == 0) return;
  (op.complex() ? run_complex : run_real)(op, sequences, cx);
}

}  // namespace statespace::STATESPACE_ISA
