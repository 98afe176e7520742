#include "ops/mamba3.h"

#include <array>

#include "core/error.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

struct Shape {
  int64_t nheads, headdim, ngroups, d_state, rank, angles;
  bool mimo;
};

// Everything that an op reads and writes, and the op on it.
struct Case {
  Packing p;
  Shape n;
  std::vector<float> x, B, C, dt, adt, trap, angles, B_bias, C_bias, D, z, mimo_x, mimo_z, mimo_o, norm;
  std::vector<float> angle, ssm, k, v, y;
  Mamba3 op;

  Case(const Packing& packing, const Shape& shape, bool extras) : p(packing), n(shape) {
    const int64_t T = p.tokens(), H = n.nheads, P = n.headdim, N = n.d_state, R = n.rank, rows = R * n.ngroups * N;
    x = uniform(T * H * P, 1), B = uniform(T * rows, 2), C = uniform(T * rows, 3);
    dt = uniform(T * H, 4, 0.01f, 0.5f), adt = uniform(T * H, 5, -2, 0), trap = uniform(T * H, 6, -3, 3);
    angles = uniform(T * n.angles, 7), B_bias = uniform(H * R * N, 8), C_bias = uniform(H * R * N, 9);
    D = uniform(H, 10), z = uniform(T * H * P, 11, -2, 2), norm = uniform(H * P, 12, 0.5f, 1.5f);
    mimo_x = uniform(H * R * P, 13), mimo_z = uniform(H * R * P, 14), mimo_o = uniform(H * R * P, 15);
    angle = uniform(p.pool * H * n.angles, 16, 0, 6), ssm = uniform(p.pool * H * P * N, 17);
    k = uniform(p.pool * R * H * N, 18), v = uniform(p.pool * H * P, 19), y.assign(T * H * P, NAN);
    op.x = view(x, {T, H, P}), op.y = view(y, {T, H, P});
    op.B = n.mimo ? view(B, {T, R, n.ngroups, N}) : view(B, {T, n.ngroups, N});
    op.C = n.mimo ? view(C, {T, R, n.ngroups, N}) : view(C, {T, n.ngroups, N});
    op.dt = view(dt, {T, H}), op.adt = view(adt, {T, H}), op.trap = view(trap, {T, H});
    op.angles = view(angles, {T, n.angles});
    op.B_bias = n.mimo ? view(B_bias, {H, R, N}) : view(B_bias, {H, N});
    op.C_bias = n.mimo ? view(C_bias, {H, R, N}) : view(C_bias, {H, N});
    if (extras) op.D = view(D, {H}), op.z = view(z, {T, H, P}), op.norm_weight = view(norm, {H, P});
    if (n.mimo) op.mimo_x = view(mimo_x, {H, R, P}), op.mimo_o = view(mimo_o, {H, R, P});
    if (n.mimo && extras) op.mimo_z = view(mimo_z, {H, R, P});
    op.cu_seqlens = view(p.bounds), op.slots = view(p.slots);
    op.angle_state = view(angle, {p.pool, H, n.angles}), op.ssm_state = view(ssm, {p.pool, H, P, N});
    op.k_state = n.mimo ? view(k, {p.pool, R, H, N}) : view(k, {p.pool, H, N});
    op.v_state = view(v, {p.pool, H, P});
  }
  Case(const Case&) = delete;
};

// The recurrence of ops/mamba3.h in f64; changes the case's states and y.
void reference(Case& c) {
  const auto [H, P, G, N, R, S, mimo] = c.n;
  const Mamba3& op = c.op;
  each_sequence(c.p, [&, H = H, P = P, G = G, N = N, R = R, S = S, mimo = mimo](int64_t begin, int64_t end,
                                                                                int64_t slot) {
    for (int64_t h = 0; h < H; ++h) {
      auto factor = [&](const std::vector<float>& w, int64_t r, int64_t i) {
        return mimo ? double(w[(h * R + r) * P + i]) : 1.0;
      };
      auto last_k = [&](int64_t r, int64_t i) -> float& { return c.k[((slot * R + r) * H + h) * N + i]; };
      std::vector<double> theta(S), state(P * N), before(R * N), k(R * N), q(R * N), x_before(P);
      for (int64_t s = 0; s < S; ++s) theta[s] = c.angle[(slot * H + h) * S + s];
      for (int64_t i = 0; i < P * N; ++i) state[i] = c.ssm[(slot * H + h) * P * N + i];
      for (int64_t r = 0; r < R; ++r)
        for (int64_t i = 0; i < N; ++i) before[r * N + i] = last_k(r, i);
      for (int64_t i = 0; i < P; ++i) x_before[i] = c.v[(slot * H + h) * P + i];
      for (int64_t t = begin; t < end; ++t) {
        const double dt = c.dt[t * H + h], alpha = std::exp(double(c.adt[t * H + h]));
        const double tau = 1 / (1 + std::exp(-double(c.trap[t * H + h])));
        for (int64_t s = 0; s < S; ++s) theta[s] += M_PI * std::tanh(double(c.angles[t * S + s])) * dt;
        auto rotated = [&](const std::vector<float>& from, const std::vector<float>& bias, std::vector<double>& to) {
          for (int64_t r = 0; r < R; ++r) {
            double* row = &to[r * N];
            for (int64_t i = 0; i < N; ++i)
              row[i] = double(from[((t * R + r) * G + h / (H / G)) * N + i]) + bias[(h * R + r) * N + i];
            for (int64_t s = 0; s < S; ++s) {
              double &a = row[mimo ? s : 2 * s], &b = row[mimo ? s + N / 2 : 2 * s + 1];
              const double turned = a * std::cos(theta[s]) - b * std::sin(theta[s]);
              b = a * std::sin(theta[s]) + b * std::cos(theta[s]), a = turned;
            }
          }
        };
        rotated(c.B, c.B_bias, k), rotated(c.C, c.C_bias, q);
        for (int64_t p = 0; p < P; ++p) {
          const double x = c.x[(t * H + h) * P + p];
          for (int64_t i = 0; i < N; ++i) {
            double carried = 0, own = 0;
            for (int64_t r = 0; r < R; ++r) {
              carried += x_before[p] * factor(c.mimo_x, r, p) * before[r * N + i];
              own += x * factor(c.mimo_x, r, p) * k[r * N + i];
            }
            double& s = state[p * N + i];
            s = alpha * (s + (1 - tau) * dt * carried) + tau * dt * own;
          }
          x_before[p] = x;
        }
        before = k;
        std::vector<double> y(P, 0.0), out(P);
        for (int64_t r = 0; r < R; ++r) {
          double squares = 0;
          for (int64_t p = 0; p < P; ++p) {
            out[p] = op.D ? c.D[h] * x_before[p] * factor(c.mimo_x, r, p) : 0;
            for (int64_t i = 0; i < N; ++i) out[p] += state[p * N + i] * q[r * N + i];
            squares += out[p] * out[p];
          }
          for (int64_t p = 0; p < P; ++p) {
            if (op.norm_weight) out[p] *= c.norm[h * P + p] / std::sqrt(squares / double(P) + op.norm_eps);
            const double gate = c.z[(t * H + h) * P + p] * factor(c.mimo_z, r, p);
            if (op.z) out[p] *= gate / (1 + std::exp(-gate));
            y[p] += out[p] * factor(c.mimo_o, r, p);
          }
        }
        for (int64_t p = 0; p < P; ++p) c.y[(t * H + h) * P + p] = float(y[p]);
      }
      for (int64_t s = 0; s < S; ++s) c.angle[(slot * H + h) * S + s] = float(theta[s]);
      for (int64_t i = 0; i < P * N; ++i) c.ssm[(slot * H + h) * P * N + i] = float(state[i]);
      for (int64_t r = 0; r < R; ++r)
        for (int64_t i = 0; i < N; ++i) last_k(r, i) = float(before[r * N + i]);
      for (int64_t i = 0; i < P; ++i) c.v[(slot * H + h) * P + i] = float(x_before[i]);
    }
  });
}

// Angles are equal where they point in one direction.
std::vector<float> pointing(const std::vector<float>& angles) {
  std::vector<float> out;
  for (float a : angles) out.push_back(std::cos(a)), out.push_back(std::sin(a));
  return out;
}

std::vector<Shape> shapes() {
  return {{2, 5, 1, 6, 1, 2, false}, {4, 16, 2, 16, 1, 8, false}, {1, 1, 1, 2, 1, 1, false},
          {2, 5, 2, 8, 2, 2, true},  {3, 8, 1, 10, 4, 5, true},   {2, 20, 1, 34, 3, 17, true}};
}

}  // namespace

TEST_CASE("mamba3: SISO and MIMO, both modes, chunks of any length, packed sequences") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const Shape& n : shapes())
        for (const bool extras : {false, true})
          for (const auto [mode, chunk] : {std::pair{0, 64}, {0, 5}, {1, 64}}) {
            CAPTURE(p.tokens());
            CAPTURE(n.d_state);
            CAPTURE(n.rank);
            CAPTURE(extras);
            CAPTURE(mode);
            CAPTURE(chunk);
            Case c(p, n, extras), expected(p, n, extras);
            c.op.mode = mode, c.op.chunk_size = chunk;
            reference(expected);
            run(backend, c.op);
            CHECK(scaled_error(c.y, expected.y) < 2e-5);
            CHECK(scaled_error(c.ssm, expected.ssm) < 2e-5);
            CHECK(scaled_error(c.k, expected.k) < 2e-5);
            CHECK(c.v == expected.v);
            CHECK(max_error(pointing(c.angle), pointing(expected.angle)) < 2e-5);
          }
  });
}

TEST_CASE("mamba3: what is not finite reaches no token before its own, and none of another sequence") {
  each_backend([](const Backend& backend) {
    const Packing p{{0, 70, 90}, {1, 0}, 2};
    const int64_t spoilt = 40;
    for (const Shape& n : shapes())
      for (int what = 0; what < 7; ++what) {
        CAPTURE(n.rank);
        CAPTURE(what);
        Case c(p, n, true), clean(p, n, true);
        const std::array<std::vector<float>*, 7> inputs = {&c.x, &c.B, &c.C, &c.dt, &c.adt, &c.trap, &c.angles};
        std::vector<float>& values = *inputs[what];
        const int64_t row = int64_t(values.size()) / p.tokens();
        for (int64_t i = 0; i < row; ++i) values[spoilt * row + i] = what == 0 ? INFINITY : NAN;
        run(backend, c.op), run(backend, clean.op);
        const int64_t width = n.nheads * n.headdim;
        auto tokens = [&](const Case& of, int64_t from, int64_t to) {
          return std::vector<float>(of.y.begin() + from * width, of.y.begin() + to * width);
        };
        CHECK(scaled_error(tokens(c, 0, spoilt), tokens(clean, 0, spoilt)) < 2e-5);
        CHECK(tokens(c, 70, 90) == tokens(clean, 70, 90));
        if (what != 2) {  // C is read and not remembered
          bool any = false;
          for (float y : tokens(c, 69, 70)) any = any || !std::isfinite(y);
          CHECK(any);
        }
      }
  });
}

TEST_CASE("mamba3: more pairs than channels, and ranks on one side only, are refused") {
  Case c(packings()[0], shapes()[0], true);
  c.op.angle_state = view(c.angle, {1, 2, 4});
  CHECK_THROWS_WITH_AS(c.op.check(), doctest::Contains("has no 4 pairs to rotate"), Error);
  Case d(packings()[0], shapes()[3], true);
  d.op.mimo_o = {};
  CHECK_THROWS_WITH_AS(d.op.check(), doctest::Contains("mimoX and mimoO"), Error);
}
