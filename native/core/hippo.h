#pragma once
// Initial systems of state space layers, in f64.
#include <atomic>
#include <cstdint>

namespace statespace {

enum class S4dInit : int32_t { lin, inv, legs, real };

// HiPPO-LegS (Gu et al. 2020): A (n, n), B (n). Throws ERR_ABORTED when *stop becomes true.
void hippo_legs(int64_t n, float* A, float* B, const std::atomic<bool>* stop);
// S4D (Gu et al. 2022): A and B (n/2, 2) as [re, im], n even. Legs takes O(n³).
void s4d_init(S4dInit init, int64_t n, float* A, float* B, const std::atomic<bool>* stop);

}  // namespace statespace
