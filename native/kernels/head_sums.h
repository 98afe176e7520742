#pragma once
// Gradients of what several heads share: every head writes its own, and their sums follow.
#include <initializer_list>

#include "core/context.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

// Of gradients (tokens, groups, n), those that are absent left out. Its memory is the kernel's kept scratch.
class HeadSums {
 public:
  HeadSums(Context& cx, int64_t nheads, std::initializer_list<const Tensor*> gradients) : cx_(cx), nheads_(nheads) {
    int64_t floats = 0;
    for (const Tensor* to : gradients)
      if (*to && (*to)[1] != nheads) floats += floats_of(*to);
    float* next = floats ? cx.kept<float>(floats) : nullptr;
    for (const Tensor* to : gradients) {
      Tensor& own = own_[count_];
      own = *to, to_[count_++] = to;
      if (!own || own[1] == nheads) continue;
      own.data = next, next += floats_of(*to);
      own.row_stride = nheads * own[2], own.shape[1] = nheads;
    }
  }

  // Where heads write the i-th, (tokens, nheads, n): the gradient itself if each has its own.
  const Tensor& operator[](int i) const { return own_[i]; }

  // After all heads.
  void finish() const {
    for (int i = 0; i < count_; ++i)
      if (own_[i].data != to_[i]->data) sum(own_[i], *to_[i]);
  }

 private:
  static constexpr int kMost = 4;
  int64_t floats_of(const Tensor& to) const { return to[0] * nheads_ * to[2]; }
  void sum(const Tensor& from, const Tensor& to) const {
    const int64_t groups = to[1], n = to[2], each = nheads_ / groups;
    for_row_blocks(cx_, to[0], nheads_ * n, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t)
        for (int64_t g = 0; g < groups; ++g)
          for (int64_t c = 0; c < n; c += kLanes) {
            const int m = lanes_of(n - c);
            F total = zero();
            for (int64_t h = g * each; h < (g + 1) * each; ++h) total = total + load(from.row(t) + h * n + c, m);
            store(to.row(t) + g * n + c, total, m);
          }
    });
  }

  Context& cx_;
  const int64_t nheads_;
  int count_ = 0;
  Tensor own_[kMost];
  const Tensor* to_[kMost];
};

}  // namespace statespace::STATESPACE_ISA
