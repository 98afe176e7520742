#include "ops/selective_scan.h"

#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

struct Case {
  int64_t d_inner, d_state, ngroups = 1;
  bool complex = false, constant = false, softplus = true, gate = true, skip = true, bias = true;
  std::vector<int32_t> bounds = {0, 37};
  std::vector<int32_t> slots = {0};
  int64_t pool = 1;

  int64_t pair() const { return complex ? 2 : 1; }
  int64_t tokens() const { return bounds.back(); }
  // Activations are read from wider rows.
  int64_t stride() const { return d_inner + 5; }
  int64_t row() const { return constant ? d_state * pair() : ngroups * d_state * pair() + 3; }
};

struct Inputs {
  std::vector<float> u, delta, A, B, C, D, z, bias, state;
  explicit Inputs(const Case& c) {
    const int64_t activations = c.tokens() * c.stride(), rows = c.constant ? c.d_inner : c.tokens();
    u = uniform(activations, 1), delta = uniform(activations, 2, c.softplus ? -4 : 0, c.softplus ? 1 : 0.5f);
    A = uniform(c.d_inner * c.d_state * c.pair(), 3, -16, 0);
    if (c.complex)
      for (size_t i = 1; i < A.size(); i += 2) A[i] *= -2;
    B = uniform(rows * c.row(), 4), C = uniform(rows * c.row(), 5), D = uniform(c.d_inner, 6);
    z = uniform(activations, 7, -6, 6), bias = uniform(c.d_inner, 8, -0.5f, 0.5f);
    if (!c.softplus) bias = uniform(c.d_inner, 8, 0, 0.5f);
    state = uniform(c.pool * c.d_inner * c.d_state * c.pair(), 9);
  }
};

struct Result {
  std::vector<float> y, state;
};

Result expected(const Case& c, const Inputs& in) {
  Result r{std::vector<float>(c.tokens() * c.d_inner), in.state};
  const int64_t pair = c.pair();
  for (size_t s = 0; s + 1 < c.bounds.size(); ++s)
    for (int64_t d = 0; d < c.d_inner; ++d)
      for (int64_t n = 0; n < c.d_state; ++n) {
        float* h = &r.state[((c.slots[s] * c.d_inner + d) * c.d_state + n) * pair];
        const float* A = &in.A[(d * c.d_state + n) * pair];
        double re = h[0], im = c.complex ? h[1] : 0;
        for (int64_t t = c.bounds[s]; t < c.bounds[s + 1]; ++t) {
          const double u = in.u[t * c.stride() + d];
          double dt = double(in.delta[t * c.stride() + d]) + (c.bias ? in.bias[d] : 0);
          if (c.softplus) dt = std::log1p(std::exp(dt));
          const int64_t at =
              c.constant ? d * c.row() + n * pair : t * c.row() + (d / (c.d_inner / c.ngroups) * c.d_state + n) * pair;
          const double size = std::exp(dt * A[0]), angle = c.complex ? dt * A[1] : 0;
          const double b_im = c.complex ? in.B[at + 1] : 0, c_im = c.complex ? in.C[at + 1] : 0;
          const double next = size * (std::cos(angle) * re - std::sin(angle) * im) + dt * u * in.B[at];
          im = size * (std::cos(angle) * im + std::sin(angle) * re) + dt * u * b_im;
          re = next;
          double y = (c.complex ? 2 : 1) * (in.C[at] * re - c_im * im);
          if (n == 0 && c.skip) y += in.D[d] * u;
          const double z = in.z[t * c.stride() + d];
          r.y[t * c.d_inner + d] += float(c.gate ? y * z / (1 + std::exp(-z)) : y);
        }
        h[0] = float(re);
        if (c.complex) h[1] = float(im);
      }
  return r;
}

Result actual(const Backend& backend, const Case& c, Inputs in, ThreadPool& pool = ThreadPool::global()) {
  const int64_t T = c.tokens(), rows = c.constant ? c.d_inner : T;
  std::vector<float> y(T * c.d_inner, NAN);
  std::vector<int32_t> bounds = c.bounds, slots = c.slots;
  auto strided = [](Tensor t, int64_t stride) {
    t.row_stride = stride;
    return t;
  };
  auto coefficients = [&](std::vector<float>& b) {
    Tensor t = c.constant ? view(b, {rows, c.d_state}) : view(b, {rows, c.ngroups, c.d_state});
    if (c.complex) t.shape[t.rank++] = 2;
    return strided(t, c.row());
  };
  SelectiveScan op;
  op.u = strided(view(in.u, {T, c.d_inner}), c.stride());
  op.delta = strided(view(in.delta, {T, c.d_inner}), c.stride());
  op.A = c.complex ? view(in.A, {c.d_inner, c.d_state, 2}) : view(in.A, {c.d_inner, c.d_state});
  op.B = coefficients(in.B), op.C = coefficients(in.C);
  if (c.skip) op.D = view(in.D, {c.d_inner});
  if (c.gate) op.z = strided(view(in.z, {T, c.d_inner}), c.stride());
  if (c.bias) op.delta_bias = view(in.bias, {c.d_inner});
  op.cu_seqlens = view(bounds), op.slots = view(slots);
  op.state =
      c.complex ? view(in.state, {c.pool, c.d_inner, c.d_state, 2}) : view(in.state, {c.pool, c.d_inner, c.d_state});
  op.y = view(y, {T, c.d_inner});
  op.delta_softplus = c.softplus;
  run(backend, op, pool);
  return {y, in.state};
}

void check_case(const Case& c) {
  const Inputs in(c);
  const Result want = expected(c, in);
  each_backend([&](const Backend& backend) {
    const Result got = actual(backend, c, in);
    CHECK(relative_error(got.y, want.y) < 2e-6);
    CHECK(relative_error(got.state, want.state) < 2e-6);
  });
}

}  // namespace

TEST_CASE("selectiveScan equals its formula for every number of states and channels") {
  for (int64_t d_state : {1, 4, 5, 16, 24, 64, 100, 128})
    for (int64_t d_inner : {1, 6, 48, 200}) {
      CAPTURE(d_state);
      CAPTURE(d_inner);
      check_case({.d_inner = d_inner, .d_state = d_state});
    }
}

TEST_CASE("selectiveScan runs ragged, empty and single-token sequences on their own slots") {
  for (int64_t d_state : {4, 16, 64}) {
    CAPTURE(d_state);
    Case c{.d_inner = 40, .d_state = d_state};
    c.bounds = {0, 0, 1, 6, 6, 91, 92, 100}, c.slots = {1, 8, 0, 3, 7, 2, 4}, c.pool = 9;
    check_case(c);
    c.bounds = {0, 1, 2, 3, 4, 5, 6, 7};
    check_case(c);
    c.bounds = {0, 0, 0, 0, 0, 0, 0, 0};
    check_case(c);
  }
}

TEST_CASE("selectiveScan takes grouped, constant and complex coefficients, and no optional input") {
  for (int64_t d_state : {3, 16, 64})
    for (bool complex : {false, true})
      for (bool constant : {false, true})
        for (bool plain : {false, true}) {
          CAPTURE(d_state);
          CAPTURE(complex);
          CAPTURE(constant);
          CAPTURE(plain);
          Case c{.d_inner = 36, .d_state = d_state, .ngroups = 3, .complex = complex, .constant = constant};
          if (plain) c.softplus = c.gate = c.skip = c.bias = false;
          check_case(c);
        }
}

TEST_CASE("selectiveScan steps equal the whole, and threads change no bit") {
  for (int64_t d_state : {5, 16, 128}) {
    Case c{.d_inner = 50, .d_state = d_state};
    c.bounds = {0, 70};
    const Inputs in(c);
    each_backend([&](const Backend& backend) {
      ThreadPool one(1), three(3);
      const Result whole = actual(backend, c, in, one);
      const Result threaded = actual(backend, c, in, three);
      CHECK(whole.y == threaded.y);
      CHECK(whole.state == threaded.state);

      Inputs step = in;
      Case single = c;
      single.bounds = {0, 1};
      std::vector<float> y;
      for (int64_t t = 0; t < c.tokens(); ++t) {
        auto token = [&](const std::vector<float>& all, int64_t stride) {
          return std::vector<float>(&all[t * stride], &all[t * stride] + stride);
        };
        step.u = token(in.u, c.stride()), step.delta = token(in.delta, c.stride()), step.z = token(in.z, c.stride());
        step.B = token(in.B, c.row()), step.C = token(in.C, c.row());
        const Result r = actual(backend, single, step, one);
        step.state = r.state;
        y.insert(y.end(), r.y.begin(), r.y.end());
      }
      CHECK(relative_error(y, whole.y) < 1e-6);
      CHECK(relative_error(step.state, whole.state) < 1e-6);
    });
  }
}

TEST_CASE("selectiveScan forgets without a NaN when the decay is extreme") {
  Case c{.d_inner = 20, .d_state = 16, .softplus = false, .bias = false};
  Inputs in(c);
  for (auto& dt : in.delta) dt *= 1e4f;
  const Result want = expected(c, in);
  each_backend([&](const Backend& backend) {
    const Result got = actual(backend, c, in);
    CHECK(relative_error(got.y, want.y) < 2e-6);
  });
}
