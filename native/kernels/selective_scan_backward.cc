#include <algorithm>

#include "backend/kernels.h"
#include "kernels/selective_scan_complex_gradient.h"
#include "kernels/selective_scan_real_gradient.h"
#include "kernels/sequences.h"
#include "ops/selective_scan.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace selective_scan_gradient;

// Gradients of B or C per token from the parts' sums of it, `size` floats apart.
void write_sums(Context& cx, const Tensor& to, const float* sums, int64_t tokens, int64_t size, int64_t tasks) {
  const int64_t groups = to[1], d_state = to[2];
  cx.parallel_for(ceil_div(tokens, 64), [&](int64_t block, int) {
    for (int64_t t = block * 64; t < std::min(tokens, block * 64 + 64); ++t)
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t n = 0; n < d_state; n += kStates) {
          const int m = int(std::min<int64_t>(kStates, d_state - n));
          F total = zero();
          for (int64_t i = g * tasks / groups; i < (g + 1) * tasks / groups; ++i)
            total = total + load(sums + i * size + n * tokens + t * kStates, m);
          store(to.row(t) + g * d_state + n, total, m);
        }
  });
}

void scan_real(const SelectiveScanBackward& op, Context& cx) {
  const int64_t tokens = op.u[0], d_inner = op.u[1], states = ceil_div(op.A[1], kStates) * kStates;
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const int64_t B_groups = op.constant(op.B) ? 1 : op.B[1], C_groups = op.constant(op.C) ? 1 : op.C[1];
  // Parts are of the finer of the two groupings; the coarser one's sums are over several.
  int64_t groups = B_groups;
  while (groups % C_groups) groups += B_groups;  // the least common multiple
  const int64_t width = d_inner / groups, vectors = ceil_div(width, kLanes);
  const int64_t each = std::clamp<int64_t>(kMostParts / groups, 1, vectors), tasks = groups * each;
  const bool shared = !op.constant(op.B) || !op.constant(op.C);
  const int64_t size = shared ? tokens * states * 2 : 0;
  float* sums = cx.kept<float>(tasks * size);
  Part* parts = cx.shared<Part>(tasks);
  for (int64_t i = 0; i < tasks; ++i) {
    const int64_t group = i / each, part = i % each;
    const int64_t begin = part * vectors / each * kLanes, end = std::min(width, (part + 1) * vectors / each * kLanes);
    parts[i] = {group * width + begin, end - begin, group * B_groups / groups, group * C_groups / groups,
                sums + i * size};
  }
  const int64_t piece = op.interval(op.A[1]);
  int64_t starts = 2;  // a sequence's and the piece's, where the forward kept it
  for (int64_t s = 0; s < sequences.count && !op.states; ++s)
    starts = std::max(starts, ceil_div(sequences.end(s) - sequences.begin(s), piece));
  const int64_t stretches = std::min<int64_t>(tasks, cx.threads());
  cx.parallel_for(stretches, [&](int64_t i, int worker) {
    const Part *begin = parts + i * tasks / stretches, *end = parts + (i + 1) * tasks / stretches;
    Layout layout{piece, states, starts, 0};
    for (const Part* part = begin; part < end; ++part) layout.vectors += ceil_div(part->channels, kLanes);
    ScanGradient(op, begin, end, layout, cx.local<float>(worker, ScanGradient::floats(layout))).run(sequences, cx);
  });
  if (op.dB && !op.constant(op.B)) write_sums(cx, op.dB, sums, tokens, size, tasks);
  if (op.dC && !op.constant(op.C)) write_sums(cx, op.dC, sums + tokens * states, tokens, size, tasks);
}

}  // namespace

template <>
void run(const SelectiveScanBackward& op, Context& cx) {
  op.complex() ? scan_complex_gradient(op, cx) : scan_real(op, cx);
}

}  // namespace statespace::STATESPACE_ISA
