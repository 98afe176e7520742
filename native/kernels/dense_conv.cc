#include "ops/dense_conv.h"

#include "backend/kernels.h"
#include "kernels/matrix.h"
#include "ops/fft_conv.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Outputs whose taps are held at once: memory grows with inputs · length, not with the pairs.
constexpr int64_t kOutputs = 8;

// Taps (inputs, length) from every input to one output, row · A^j · B with row the output's row of C: in f64, since
// powers of A run over the whole sequence. scratch: 2 · d_state.
void taps(const DenseConv& op, int64_t output, Tensor K, double* scratch) {
  const int64_t d_state = op.A[0];
  double *row = scratch, *next = row + d_state;
  for (int64_t n = 0; n < d_state; ++n) row[n] = op.C.row(output)[n];
  for (int64_t j = 0; j < K[1]; ++j) {
    for (int64_t i = 0; i < K[0]; ++i) {
      double sum = 0;
      for (int64_t n = 0; n < d_state; ++n) sum += row[n] * op.B.row(n)[i];
      K.row(i)[j] = float(sum);
    }
    std::memset(next, 0, size_t(d_state) * sizeof(double));
    for (int64_t k = 0; k < d_state; ++k)
      for (int64_t n = 0; n < d_state; ++n) next[n] += row[k] * op.A.row(k)[n];
    double* last = row;
    row = next, next = last;
  }
}

}  // namespace

template <>
void run(const DenseConv& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  const int64_t tokens = op.x[0], inputs = op.x[1], outputs = op.y[1];
  const int64_t longest = longest_of(sequences);
  if (longest == 0) return;
  float* kernels = cx.kept<float>(kOutputs * inputs * longest + tokens * inputs);
  const Tensor terms = matrix(kernels + kOutputs * inputs * longest, tokens, inputs);
  for (int64_t first = 0; first < outputs; first += kOutputs) {
    const int64_t count = outputs - first < kOutputs ? outputs - first : kOutputs;
    const auto kernel_of = [&](int64_t i) { return matrix(kernels + i * inputs * longest, inputs, longest); };
    cx.parallel_for(count, [&](int64_t i, int worker) {
      taps(op, first + i, kernel_of(i), cx.local<double>(worker, 2 * op.A[0]));
    });
    for (int64_t i = 0; i < count; ++i) {
      FftConv conv;
      conv.x = op.x, conv.kernel = kernel_of(i), conv.cu_seqlens = op.cu_seqlens, conv.y = terms;
      run(conv, cx);
      for (int64_t t = 0; t < tokens; ++t) {
        float sum = 0;
        for (int64_t c = 0; c < inputs; ++c) sum += terms.row(t)[c];
        op.y.row(t)[first + i] = sum;
      }
    }
  }
}

}  // namespace statespace::STATESPACE_ISA
