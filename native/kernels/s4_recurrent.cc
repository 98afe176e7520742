#include "ops/s4_recurrent.h"

#include "backend/kernels.h"
#include "kernels/s4_system.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

struct Complex {
  F re, im;
};
inline Complex load_complex(const float* p) { return {load(p), load(p + kLanes)}; }
inline void store_complex(float* p, Complex x) { store(p, x.re), store(p + kLanes, x.im); }
// a·b + c; Re(a·b) + c; Re(conj(a)·b) + c; a·x + c for a real x
inline Complex fma(Complex a, Complex b, Complex c) {
  return {fnma(a.im, b.im, fma(a.re, b.re, c.re)), fma(a.re, b.im, fma(a.im, b.re, c.im))};
}
inline F fma_real(Complex a, Complex b, F c) { return fnma(a.im, b.im, fma(a.re, b.re, c)); }
inline F fma_conjugate(Complex a, Complex b, F c) { return fma(a.im, b.im, fma(a.re, b.re, c)); }
inline Complex fma(Complex a, F x, Complex c) { return {fma(a.re, x, c.re), fma(a.im, x, c.im)}; }

// Coefficients and state of kLanes channels, complex, (d_state, rows of a state, kLanes). The step is h + (Ā - 1) h and
// not Ā h: the rounding of Ā would turn slow states by a phase that grows with time, that of Ā - 1 by far less.
//   u = h + growth h + input x - drag q,    q = P* h        (drag, pull and P only with P)
//   h = u - pull s,   s = P* u,   y = 2 Re(C h) + D x       (Woodbury's identity for the implicit half of the step)
class Lanes {
 public:
  Lanes(const S4Recurrent& op, int64_t block, float* scratch)
      : op(op),
        first(block * kLanes),
        lanes(op.x[1] - first < kLanes ? int(op.x[1] - first) : kLanes),
        n_state(op.A[1]),
        width(row_floats(op)),
        rows(scratch),
        skip(op.D ? load(op.D.f32() + first, lanes) : zero()) {
    std::memset(rows, 0, size_t(n_state * width) * sizeof(float));
    for (int l = 0; l < lanes; ++l) coefficients(l);
  }
  static int64_t row_floats(const S4Recurrent& op) { return (op.P ? 7 : 4) * 2 * kLanes; }

  void run(int64_t begin, int64_t end, float* pool_row, const Context& cx) {
    const int64_t pair = op.A.rank == 3 ? 2 : 1;
    for (int l = 0; l < lanes; ++l)
      for (int64_t n = 0; n < n_state; ++n)
        for (int64_t part = 0; part < 2; ++part)
          *at(n, kState, l, part) = part < pair ? pool_row[((first + l) * n_state + n) * pair + part] : 0;
    if (op.P)
      low_rank(begin, end, cx);
    else
      diagonal(begin, end, cx);
    for (int l = 0; l < lanes; ++l)
      for (int64_t n = 0; n < n_state; ++n)
        for (int64_t part = 0; part < pair; ++part)
          pool_row[((first + l) * n_state + n) * pair + part] = *at(n, kState, l, part);
  }

 private:
  enum Row { kState, kGrowth, kInput, kC, kP, kDrag, kPull };
  float* at(int64_t n, Row row, int lane, int64_t part) {
    return rows + n * width + row * 2 * kLanes + part * kLanes + lane;
  }
  void set_value(int64_t n, Row row, int lane, Z v) {
    *at(n, row, lane, 0) = float(v.re), *at(n, row, lane, 1) = float(v.im);
  }

  // (1 - dt/2 a)⁻¹
  static Z implicit(Z a, double dt) { return std::isinf(a.re) && a.re < 0 ? Z{0, 0} : inverse(Z{1, 0} - 0.5 * dt * a); }
  void coefficients(int lane) {
    const int64_t c = first + lane;
    const double dt = s4_dt(op.log_dt, c);
    double gain = 2 / dt;  // 2/dt + P* (1 - dt/2 Λ)⁻¹ P
    if (op.P)
      for (int64_t n = 0; n < n_state; ++n) {
        const Z p = s4_value(op.P, c, n);
        gain += 2 * (p.re * p.re + p.im * p.im) * implicit(s4_value(op.A, c, n), dt).re;
      }
    for (int64_t n = 0; n < n_state; ++n) {
      const Z a = s4_value(op.A, c, n);
      const S4Step step = s4_step(op.method, a, dt);
      set_value(n, kGrowth, lane, step.growth);
      set_value(n, kInput, lane, step.input * s4_value(op.B, c, n));
      set_value(n, kC, lane, 2.0 * s4_value(op.C, c, n));
      if (!op.P) continue;
      const Z p = s4_value(op.P, c, n), pulled = implicit(a, dt) * p;
      set_value(n, kP, lane, 2.0 * p);
      set_value(n, kDrag, lane, -0.5 * dt * pulled);
      set_value(n, kPull, lane, -1 / gain * pulled);
    }
  }

  void diagonal(int64_t begin, int64_t end, const Context& cx) {
    for (int64_t t = begin; t < end; ++t) {
      cx.check_stop();
      const F x = load(op.x.row(t) + first, lanes);
      F y = skip * x;
      for (float* p = rows; p < rows + n_state * width; p += width) {
        const Complex h = load_complex(p);
        const Complex next = fma(row(p, kGrowth), h, fma(row(p, kInput), x, h));
        store_complex(p, next);
        y = fma_real(row(p, kC), next, y);
      }
      store(op.y.row(t) + first, y, lanes);
    }
  }

  void low_rank(int64_t begin, int64_t end, const Context& cx) {
    F q = zero();
    for (float* p = rows; p < rows + n_state * width; p += width) q = fma_conjugate(row(p, kP), load_complex(p), q);
    for (int64_t t = begin; t < end; ++t) {
      cx.check_stop();
      const F x = load(op.x.row(t) + first, lanes);
      F s = zero(), y = skip * x;
      for (float* p = rows; p < rows + n_state * width; p += width) {
        const Complex h = load_complex(p);
        const Complex u = fma(row(p, kGrowth), h, fma(row(p, kInput), x, fma(row(p, kDrag), q, h)));
        store_complex(p, u);
        s = fma_conjugate(row(p, kP), u, s);
      }
      q = zero();
      for (float* p = rows; p < rows + n_state * width; p += width) {
        const Complex h = fma(row(p, kPull), s, load_complex(p));
        store_complex(p, h);
        y = fma_real(row(p, kC), h, y);
        q = fma_conjugate(row(p, kP), h, q);
      }
      store(op.y.row(t) + first, y, lanes);
    }
  }
  static Complex row(const float* p, Row r) { return load_complex(p + r * 2 * kLanes); }

  const S4Recurrent& op;
  const int64_t first;
  const int lanes;
  const int64_t n_state, width;
  float* rows;
  const F skip;
};

}  // namespace

template <>
void run(const S4Recurrent& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  cx.parallel_for(ceil_div(op.x[1], kLanes), [&](int64_t block, int worker) {
    Lanes lanes(op, block, cx.local<float>(worker, op.A[1] * Lanes::row_floats(op)));
    for (int64_t s = 0; s < sequences.count; ++s)
      lanes.run(sequences.begin(s), sequences.end(s), op.state.row(sequences.slot(s)), cx);
  });
}

}  // namespace statespace::STATESPACE_ISA
