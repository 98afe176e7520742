#pragma once
// Weights that are sums of products of a checkpoint's values, and their gradients.
#include <atomic>
#include <vector>

#include "program/trainer.h"

namespace statespace {

// Throws ERR_ARGUMENT where a term is none of `values` values.
void check_terms(const TrainerLayout::Weight& w, int64_t values);

// t from the values of the weight's parts, end to end.
void sum_terms(const TrainerLayout::Weight& w, const std::vector<float>& values, const Tensor& t);

// Adds to the gradient of each value, at to[i] (nullptr: it is not wanted), what that of the weight gives it.
void add_term_gradients(const TrainerLayout::Weight& w, const std::vector<float>& values, const float* gradient,
                        const std::vector<float*>& to, const std::atomic<bool>* stop);

}  // namespace statespace
