#include "program/weight_terms.h"

#include <cmath>

#include "core/error.h"
#include "core/halves.h"

namespace statespace {
namespace {

// The three values that a term may name, 1 for those that it does not.
struct Factors {
  double factor[3];  // e^x, a, b
  double term;
  Factors(const TrainerLayout::Weight& w, int32_t k, const std::vector<float>& values) : term(w.factors[k]) {
    for (int i = 0; i < 3; ++i) {
      const int32_t at = w.index[3 * k + i];
      factor[i] = at < 0 ? 1 : i == 0 ? std::exp(double(values[at])) : double(values[at]);
      term *= factor[i];
    }
  }
};

}  // namespace

void check_terms(const TrainerLayout::Weight& w, int64_t values) {
  bool right = !w.starts.empty() && w.starts.front() == 0 && size_t(w.starts.back()) == w.factors.size() &&
               w.index.size() == 3 * w.factors.size();
  for (size_t i = 1; i < w.starts.size(); ++i) right = right && w.starts[i - 1] <= w.starts[i];
  for (int32_t at : w.index) right = right && at >= -1 && at < values;
  if (!right) throw Error(Code::kArgument, "trainer: a weight of terms that are none of its parts");
}

void sum_terms(const TrainerLayout::Weight& w, const std::vector<float>& values, const Tensor& t) {
  for (size_t i = 0; i + 1 < w.starts.size(); ++i) {
    double sum = 0;
    for (int32_t k = w.starts[i]; k < w.starts[i + 1]; ++k) sum += Factors(w, k, values).term;
    write_float(t.data, t.dtype, int64_t(i), float(sum));
  }
}

void add_term_gradients(const TrainerLayout::Weight& w, const std::vector<float>& values, const float* gradient,
                        const std::vector<float*>& to, const std::atomic<bool>* stop) {
  for (size_t i = 0; i + 1 < w.starts.size(); ++i) {
    if (i % 1024 == 0) throw_if_stopped(stop);
    for (int32_t k = w.starts[i]; k < w.starts[i + 1]; ++k) {
      const Factors f(w, k, values);
      const double others[] = {f.term, w.factors[k] * f.factor[0] * f.factor[2],
                               w.factors[k] * f.factor[0] * f.factor[1]};
      for (int which = 0; which < 3; ++which) {
        const int32_t at = w.index[3 * k + which];
        if (at >= 0 && to[at]) *to[at] += float(others[which] * gradient[i]);
      }
    }
  }
}

}  // namespace statespace
