#pragma once
// Which experts a token goes to.
#include "isa/math.h"
#include "kernels/matmul.h"

namespace statespace::STATESPACE_ISA {

// p (experts): logits in, their softmax out.
inline void softmax(float* p, int64_t n) {
  float top = p[0];
  for (int64_t e = 1; e < n; ++e) top = p[e] > top ? p[e] : top;
  F total = zero();
  for (int64_t e = 0; e < n; e += kLanes) {
    const int m = n - e < kLanes ? int(n - e) : kLanes;
    F v = exp(load(p + e, m) - set(top));
    store(p + e, v, m);
    total = total + load(p + e, m);
  }
  const float scale = 1 / sum(total);
  for (int64_t e = 0; e < n; ++e) p[e] *= scale;
}

// The topK largest of p, in falling order; taken ones are marked by -1.
inline void choose(float* p, int64_t n, int64_t top_k, bool renormalize, int32_t* chosen, float* weight) {
  float total = 0;
  for (int64_t k = 0; k < top_k; ++k) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; ++e)
      if (p[e] != -1 && (best < 0 || p[e] > p[best])) best = e;
    chosen[k] = int32_t(best), weight[k] = p[best], total += p[best];
    p[best] = -1;
  }
  if (renormalize)
    for (int64_t k = 0; k < top_k; ++k) weight[k] /= total;
}

// (token, expert) pairs in the order of experts.
struct Routes {
  int32_t* first;  // (experts + 1) where an expert's pairs start
  int32_t* token;  // (pairs)
  int32_t* pair;   // (pairs) its number in the order of tokens
  float* weight;   // (pairs)
};

// Of the pairs of these numbers, what is kept for the gradient: gate·x (part 0) or up·x (the last one).
inline Rows kept_hidden(const Tensor& hidden, const int32_t* pairs, int64_t part) {
  Rows rows;
  rows.stride = hidden[2] * hidden[3], rows.data = hidden.f32() + part * hidden[3], rows.index = pairs;
  return rows;
}

inline void group(const int32_t* chosen, const float* weight, int64_t tokens, int64_t top_k, int64_t experts,
                  const Routes& routes) {
  for (int64_t e = 0; e <= experts; ++e) routes.first[e] = 0;
  for (int64_t i = 0; i < tokens * top_k; ++i) ++routes.first[chosen[i] + 1];
  for (int64_t e = 0; e < experts; ++e) routes.first[e + 1] += routes.first[e];
  for (int64_t i = 0; i < tokens * top_k; ++i) {
    const int32_t at = routes.first[chosen[i]]++;
    routes.token[at] = int32_t(i / top_k), routes.pair[at] = int32_t(i), routes.weight[at] = weight[i];
  }
  for (int64_t e = experts; e > 0; --e) routes.first[e] = routes.first[e - 1];
  routes.first[0] = 0;
}

}  // namespace statespace::STATESPACE_ISA
