#pragma once
// Gradients of what all rows share (weights and biases of a channel): sums over rows. Rows are summed in parts that
// depend on their number alone, so that the result is the same for any number of threads.
#include <cstring>

#include "core/context.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

constexpr int64_t kPartRows = 32, kMostParts = 64;
constexpr int64_t kStretch = 1 << 18;  // values of a stretch

class ColumnSums {
 public:
  // `width` sums, over `rows` rows. Its memory is the kernel's shared scratch, behind `before` floats of it.
  ColumnSums(Context& cx, int64_t rows, int64_t width, int64_t before = 0)
      : cx_(cx), rows_(rows), width_(width), stride_(ceil_div(width, 16) * 16 + 16) {
    parts_ = std::clamp<int64_t>(ceil_div(rows, kPartRows), 1, kMostParts);
    sums_ = cx.shared<float>(before + parts_ * stride_) + before;
  }

  // fn(begin, end, worker, sums) for the rows of each part, stretch by stretch, between which it hears of an abort;
  // sums (width) are zeros at first and to be added to.
  template <class Fn>
  void each_part(Fn&& fn) {
    cx_.parallel_for(parts_, [&](int64_t i, int worker) {
      float* sums = sums_ + i * stride_;
      std::memset(sums, 0, width_ * sizeof(float));
      const int64_t stretch = std::max<int64_t>(1, kStretch / std::max<int64_t>(1, width_));
      const int64_t end = (i + 1) * rows_ / parts_;
      for (int64_t begin = i * rows_ / parts_; begin < end; begin += stretch) {
        cx_.check_stop();
        fn(begin, std::min(begin + stretch, end), worker, sums);
      }
    });
  }

  // to (count) = the sums from column `first` on, or with `add` what is there and those.
  void write(int64_t first, int64_t count, float* to, bool add = false) const {
    for (int64_t c = 0; c < count; c += kLanes) {
      const int n = lanes_of(count - c);
      F total = add ? load(to + c, n) : zero();
      for (int64_t i = 0; i < parts_; ++i) total = total + load(sums_ + i * stride_ + first + c, n);
      store(to + c, total, n);
    }
  }

 private:
  Context& cx_;
  const int64_t rows_, width_, stride_;
  int64_t parts_;
  float* sums_;
};

// a (n) += b
inline void add_to(float* a, const float* b, int64_t n) {
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    store(a + c, load(a + c, m) + load(b + c, m), m);
  }
}

// to (channels) = Σ of the rows.
inline void sum_rows(Context& cx, const Tensor& rows, float* to, bool add = false) {
  ColumnSums sums(cx, rows[0], rows[1]);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    for (int64_t r = begin; r < end; ++r) add_to(part, rows.row(r), rows[1]);
  });
  sums.write(0, rows[1], to, add);
}

}  // namespace statespace::STATESPACE_ISA
