#include "backend/kernels.h"
#include "kernels/product.h"
#include "kernels/s4_nodes.h"
#include "kernels/s4_system.h"
#include "ops/s4_kernel.h"

// A gradient of a complex value is held as g with dL = Re(g dv): its [re, im] are those of the conjugate.
namespace statespace::STATESPACE_ISA {
namespace {

// Steps of a block, and blocks at a time, as the forward has them.
constexpr int64_t kStepsOfBlock = 128, kBlocksAtOnce = 256;

void write_gradient(const Tensor& t, int64_t c, int64_t n, Z g) {
  if (!t) return;
  float* row = t.row(c);
  if (t.rank == 2)
    row[n] = float(g.re);
  else
    row[2 * n] = float(g.re), row[2 * n + 1] = float(-g.im);
}

// dt stands still beyond s4_dt()'s limit.
void write_dt(const S4KernelBackward& op, int64_t c, double ddt) {
  if (op.dlog_dt) op.dlog_dt.f32()[c] = op.log_dt.f32()[c] > 200 ? 0 : float(s4_dt(op.log_dt, c) * ddt);
}

// Ā = a(A, dt) and B̄ = u(A, dt) B, with their derivatives.
struct S4Slopes {
  Z a, u, a_of_A, a_of_dt, u_of_A, u_of_dt;
  S4Slopes(int32_t method, Z A, double dt) {
    const S4Step step = s4_step(method, A, dt);
    const Z x = dt * A;
    a = Z{1, 0} + step.growth, u = step.input;
    if (method == kBilinear) {
      const Z d = inverse(Z{1, 0} - 0.5 * x), dd = d * d;
      a_of_A = dt * dd, a_of_dt = A * dd, u_of_A = 0.5 * dt * dt * dd, u_of_dt = dd;
      return;
    }
    a_of_A = dt * a, a_of_dt = A * a, u_of_dt = a;
    // (dt a - u) / A = dt² Σ_k (k+1) x^k / (k+2)!, by its series where the difference cancels
    if (x.re * x.re + x.im * x.im > 0.01) {
      u_of_A = (dt * a - u) * inverse(A);
      return;
    }
    Z power = {1, 0}, sum = {0, 0};
    double factorial = 2;
    for (int k = 0; k < 10; ++k, factorial *= k + 2, power = power * x) sum = sum + (k + 1) / factorial * power;
    u_of_A = dt * dt * sum;
  }
};

// Σ_l dK_l a^l and Σ_l l dK_l a^{l-1} of each state, by blocks: l = block·i + j. In f32 within a block,
// T_i = Σ_j dK a^j and U_i = Σ_j j dK a^{j-1} as one product, in f64 over the blocks:
//   Σ_i a^{block·i} T_i,   Σ_i (a^{block·i} U_i + block·i a^{block·i - 1} T_i)
class Powers {
 public:
  Powers(const S4KernelBackward& op, int64_t c, char* scratch)
      : op_(op), c_(c), n_state_(op.A[1]), stride_(stride(op)) {
    state_ = reinterpret_cast<State*>(scratch);
    fine_ = reinterpret_cast<float*>(state_ + n_state_);
    steps_ = fine_ + kStepsOfBlock * stride_;
    sums_ = steps_ + whole_tiles(kBlocksAtOnce) * kStepsOfBlock;
  }
  static int64_t bytes(const S4KernelBackward& op) {
    return op.A[1] * int64_t(sizeof(State)) +
           int64_t(sizeof(float)) *
               (kStepsOfBlock * (stride(op) + whole_tiles(kBlocksAtOnce)) + whole_tiles(kBlocksAtOnce) * stride(op));
  }
  void set(int64_t n, Z a) {
    Z power = {1, 0}, before = {0, 0};  // a^j, a^{j-1}
    for (int64_t j = 0; j < kStepsOfBlock; ++j, before = power, power = power * a) {
      float* row = fine_ + j * stride_ + 4 * n;
      row[0] = float(power.re), row[1] = float(power.im);
      row[2] = float(double(j) * before.re), row[3] = float(double(j) * before.im);
    }
    state_[n] = {power, {1, 0}, before, {}, {}};
  }
  void run(const Context& cx) {
    const int64_t length = op_.dK[1], blocks = ceil_div(length, kStepsOfBlock);
    for (int64_t first = 0; first < blocks; first += kBlocksAtOnce) {
      cx.check_stop();
      const int64_t count = std::min(kBlocksAtOnce, blocks - first), from = first * kStepsOfBlock;
      const int64_t there = std::min(count * kStepsOfBlock, length - from);
      std::memcpy(steps_, op_.dK.row(c_) + from, size_t(there) * sizeof(float));
      std::memset(steps_ + there, 0, size_t(count * kStepsOfBlock - there) * sizeof(float));
      std::memset(sums_, 0, size_t(count * stride_) * sizeof(float));
      add_product(count, 4 * n_state_, kStepsOfBlock, {steps_, kStepsOfBlock, 1}, fine_, stride_, sums_, stride_);
      for (int64_t n = 0; n < n_state_; ++n) add(first, count, n);
    }
  }
  Z zeroth(int64_t n) const { return state_[n].zeroth; }
  Z first(int64_t n) const { return state_[n].first; }

 private:
  struct State {
    Z block;          // a^block
    Z power, before;  // a^{block·i}, and of the next i a^{block·i - 1}
    Z zeroth, first;
  };
  static int64_t stride(const S4KernelBackward& op) { return ceil_div(4 * op.A[1], kLanes) * kLanes; }
  void add(int64_t from, int64_t count, int64_t n) {
    State& s = state_[n];
    for (int64_t i = 0; i < count; ++i) {
      const float* row = sums_ + i * stride_ + 4 * n;
      const Z T = {row[0], row[1]}, U = {row[2], row[3]};
      s.zeroth = s.zeroth + s.power * T, s.first = s.first + s.power * U;
      if (from + i > 0) {
        s.first = s.first + double((from + i) * kStepsOfBlock) * (s.before * T);
        s.before = s.before * s.block;
      }
      s.power = s.power * s.block;
    }
  }

  const S4KernelBackward& op_;
  const int64_t c_, n_state_, stride_;
  State* state_;
  float *fine_, *steps_, *sums_;
};

void diagonal(const S4KernelBackward& op, int64_t c, char* scratch, const Context& cx) {
  const double dt = s4_dt(op.log_dt, c);
  Powers powers(op, c, scratch);
  for (int64_t n = 0; n < op.A[1]; ++n) {
    cx.check_stop();
    const S4Step step = s4_step(op.method, s4_value(op.A, c, n), dt);
    powers.set(n, Z{1, 0} + step.growth);
  }
  powers.run(cx);
  double ddt = 0;
  for (int64_t n = 0; n < op.A[1]; ++n) {
    const Z A = s4_value(op.A, c, n), B = s4_value(op.B, c, n), C = s4_value(op.C, c, n);
    Z dA = {0, 0}, dB = dA, dC = dA;
    if (!(std::isinf(A.re) && A.re < 0)) {  // it keeps nothing, gives nothing
      const S4Slopes s(op.method, A, dt);
      const Z dW = 2.0 * powers.zeroth(n), da = 2.0 * (C * B * s.u * powers.first(n)), du = dW * C * B;
      dC = dW * B * s.u, dB = dW * C * s.u, dA = da * s.a_of_A + du * s.u_of_A;
      ddt += (da * s.a_of_dt + du * s.u_of_dt).re;
    }
    write_gradient(op.dA, c, n, dA), write_gradient(op.dB, c, n, dB), write_gradient(op.dC, c, n, dC);
  }
  write_dt(op, c, ddt);
}

// Gradients of one pair's numerators and λ.
struct PairGradients {
  Z v[4], lambda;
};

// Σ_l dK_l K_l seen from the values X_j at the nodes is Σ_j Re(D_j X_j), D the transform of dK; conjugate nodes give
// the same once more.
void low_rank(const S4KernelBackward& op, int64_t c, const Z* roots, char* scratch, const Context& cx) {
  const int64_t n_state = op.A[1], length = op.dK[1], m = s4_nodes(length);
  const double dt = s4_dt(op.log_dt, c), log_radius = s4_log_radius(m);
  S4Pair* pairs = reinterpret_cast<S4Pair*>(scratch);
  PairGradients* gradients = reinterpret_cast<PairGradients*>(pairs + n_state);
  Z* D = reinterpret_cast<Z*>(gradients + n_state);
  for (int64_t n = 0; n < n_state; ++n) pairs[n] = S4Pair(op.A, op.B, op.C, op.P, c, n), gradients[n] = {};
  for (int64_t l = 0; l < m; ++l)
    D[l] = {l < length ? op.dK.row(c)[l] * std::exp(-log_radius * double(l)) / double(m) : 0, 0};
  inverse_dft(D, m, roots, cx);
  double ddt = 0;
  for (int64_t j = 0; j <= m / 2; ++j) {
    if (j % kHeardNodes == 0) cx.check_stop();
    const S4Node node(roots, j, m, dt);
    Z k[4];
    s4_sums(pairs, n_state, node.g, k);
    const Z rest = inverse(Z{1, 0} + k[3]), up = (j == 0 || 2 * j == m ? 2.0 : 4.0) * (node.scale * D[j]);
    const Z dk[4] = {up, -1.0 * (up * k[2] * rest), -1.0 * (up * k[1] * rest), up * k[1] * k[2] * rest * rest};
    Z dg = {0, 0};
    for (int64_t n = 0; n < n_state; ++n) {
      const S4Pair& pair = pairs[n];
      if (pair.gone) continue;
      const Z e = inverse(node.g - pair.lambda), f = inverse(conjugate(node.g) - pair.lambda);
      Z here = {0, 0}, there = {0, 0};
      for (int i = 0; i < 4; ++i) {
        gradients[n].v[i] = gradients[n].v[i] + dk[i] * e + conjugate(dk[i]) * f;
        here = here + dk[i] * pair.v[i], there = there + conjugate(dk[i]) * pair.v[i];
      }
      here = here * e * e, there = there * f * f;
      gradients[n].lambda = gradients[n].lambda + here + there;
      dg = dg - here - conjugate(there);
    }
    ddt -= (dg * node.g).re / dt;
  }
  for (int64_t n = 0; n < n_state; ++n) {
    const Z B = s4_value(op.B, c, n), C = s4_value(op.C, c, n), P = s4_value(op.P, c, n), *v = gradients[n].v;
    write_gradient(op.dA, c, n, gradients[n].lambda);
    write_gradient(op.dB, c, n, v[0] * C + v[2] * conjugate(P));
    write_gradient(op.dC, c, n, v[0] * B + v[1] * P);
    write_gradient(op.dP, c, n, v[1] * C + conjugate(v[2] * B) + 2 * v[3].re * conjugate(P));
  }
  write_dt(op, c, ddt);
}

}  // namespace

template <>
void run(const S4KernelBackward& op, Context& cx) {
  const int64_t channels = op.A[0], n_state = op.A[1], m = s4_nodes(op.dK[1]);
  if (!op.P)
    return cx.parallel_for(
        channels, [&](int64_t c, int worker) { diagonal(op, c, cx.local<char>(worker, Powers::bytes(op)), cx); });
  Z* roots = cx.shared<Z>(m);
  s4_roots(cx, m, roots);
  const int64_t bytes = n_state * int64_t(sizeof(S4Pair) + sizeof(PairGradients)) + m * int64_t(sizeof(Z));
  cx.parallel_for(channels, [&](int64_t c, int worker) { low_rank(op, c, roots, cx.local<char>(worker, bytes), cx); });
}

}  // namespace statespace::STATESPACE_ISA
