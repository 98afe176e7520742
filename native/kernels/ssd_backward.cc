#include "backend/kernels.h"
#include "kernels/activation_gradients.h"
#include "kernels/head_gradient.h"
#include "ops/ssd.h"

namespace statespace::STATESPACE_ISA {
namespace {

// dt of a token and head, and its slope in the raw dt: 0 where the clamp cuts.
struct Step {
  float dt, slope;
};

Step step_of(const SsdBackward& op, int64_t h, int64_t t) {
  const float p = op.dt.row(t)[h] + (op.dt_bias ? op.dt_bias.f32()[h] : 0);
  const bool soft = op.dt_softplus && p <= 20;
  const float s = soft ? ::log1pf(::expf(p)) : p, slope = soft ? 1 / (1 + ::expf(-p)) : 1;
  const bool inside = s >= op.dt_min && s <= op.dt_max;
  return {std::min(std::max(s, op.dt_min), op.dt_max), inside ? slope : 0};
}

}  // namespace

template <>
void run(const SsdBackward& op, Context& cx) {
  const int64_t tokens = op.x[0], nheads = op.x[1], headdim = op.x[2], groups = op.B[1], d_state = op.B[2];
  const int64_t group = nheads / groups, sequences = sequence_count(op.cu_seqlens);
  const HeadShape shape(headdim, d_state);
  const int64_t width = shape.width, per_head = nheads * d_state;
  // dB and dC of every head, to be summed over its group; dA, ddtBias and dD by sequence.
  float* dB = cx.kept<float>(2 * tokens * per_head + sequences * nheads * (2 + headdim));
  float* dC = dB + tokens * per_head;
  float* dA = dC + tokens * per_head;
  float* dbias = dA + sequences * nheads;
  float* dD = dbias + sequences * nheads;
  std::memset(dA, 0, sequences * nheads * (2 + headdim) * sizeof(float));
  auto skip = [&](int64_t h, int64_t p) { return !op.D ? 0 : op.D.rank == 1 ? op.D.f32()[h] : op.D.row(h)[p]; };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* B) {
    const float dt = step_of(op, h, t).dt, *x = op.x.row(t) + h * headdim;
    const F decay = set(::expf(dt * op.A.f32()[h]));
    load_padded(op.B.row(t) + h / group * d_state, d_state, B);
    for (int64_t p = 0; p < headdim; ++p)
      for (int64_t c = 0; c < width; c += kLanes)
        store(next + p * width + c, fma(decay, load(S + p * width + c), set(dt * x[p]) * load(B + c)));
  };
  auto backward = [&](int64_t s, int64_t h, int64_t t, const float* S, const float* behind, float* G, float* own) {
    float *B = own, *C = B + width, *db = C + width, *dc = db + width;
    const Step step = step_of(op, h, t);
    const float dt = step.dt, A = op.A.f32()[h], decay = ::expf(dt * A);
    const float *x = op.x.row(t) + h * headdim, *dy = op.dy.row(t) + h * headdim;
    const float* z = op.z ? op.z.row(t) + h * headdim : nullptr;
    load_padded(op.B.row(t) + h / group * d_state, d_state, B);
    load_padded(op.C.row(t) + h / group * d_state, d_state, C);
    std::memset(db, 0, 2 * width * sizeof(float));
    F kept = zero();
    float fed = 0;
    for (int64_t p = 0; p < headdim; ++p) {
      const float *row = S + p * width, *after = behind + p * width;
      float* gradient = G + p * width;
      float g = dy[p];
      if (z) {
        const float sigmoid = 1 / (1 + ::expf(-z[p]));
        g *= z[p] * sigmoid;
        if (op.dz) {
          F y = zero();
          for (int64_t c = 0; c < width; c += kLanes) y = fma(load(after + c), load(C + c), y);
          op.dz.row(t)[h * headdim + p] = dy[p] * (sum(y) + skip(h, p) * x[p]) * sigmoid * (1 + z[p] * (1 - sigmoid));
        }
      }
      F down = zero();
      for (int64_t c = 0; c < width; c += kLanes) {
        const F total = fma(set(g), load(C + c), load(gradient + c));
        store(dc + c, fma(set(g), load(after + c), load(dc + c)));
        store(db + c, fma(set(x[p]), total, load(db + c)));
        down = fma(total, load(B + c), down);
        kept = fma(total, load(row + c), kept);
        store(gradient + c, set(decay) * total);
      }
      const float through = sum(down);
      fed += x[p] * through;
      if (op.dx) op.dx.row(t)[h * headdim + p] = skip(h, p) * g + dt * through;
      dD[(s * nheads + h) * headdim + p] += g * x[p];
    }
    const float q = decay * sum(kept), ddt = (fed + A * q) * step.slope;
    for (int64_t c = 0; c < width; c += kLanes) store(db + c, set(dt) * load(db + c));
    store_padded(db, d_state, dB + (t * nheads + h) * d_state);
    store_padded(dc, d_state, dC + (t * nheads + h) * d_state);
    if (op.ddt) op.ddt.row(t)[h] = ddt;
    dA[s * nheads + h] += dt * q;
    dbias[s * nheads + h] += ddt;
  };
  each_head_backwards(cx, {op.cu_seqlens, tokens, nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      4 * width, forward, backward);
  if (op.dB) sum_heads(cx, dB, tokens, nheads, groups, d_state, op.dB);
  if (op.dC) sum_heads(cx, dC, tokens, nheads, groups, d_state, op.dC);
  if (op.dA) sum_sequences(dA, sequences, nheads, op.dA.f32());
  if (op.ddt_bias) sum_sequences(dbias, sequences, nheads, op.ddt_bias.f32());
  if (!op.dD) return;
  sum_sequences(dD, sequences, nheads * headdim, dD);
  for (int64_t h = 0; h < nheads; ++h) {
    float total = 0;
    for (int64_t p = 0; p < headdim; ++p) {
      if (op.dD.rank == 2) op.dD.row(h)[p] = dD[h * headdim + p];
      total += dD[h * headdim + p];
    }
    if (op.dD.rank == 1) op.dD.f32()[h] = total;
  }
}

}  // namespace statespace::STATESPACE_ISA
