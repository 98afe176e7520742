// Four launches: the angles, a thread each through its sequence; rotated rows of k and c, a thread a channel; the
// state, whose columns of headdim evolve by themselves, a column across 8 lanes; and what follows for each head of a
// token.
#include "elementary.h"
#include "head_state.h"
#include "ops/mamba3.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Mamba3Args {
  Rows<const float> x, B, C, dt, adt, trap, angles, B_bias, C_bias, z, mimo_x, mimo_z, mimo_o, norm_weight;
  global<const float> D, dt_bias;
  Rows<float> angle_state, ssm_state, k_state, v_state, y;
  Sequences sequences;
  global<float> theta;  // (tokens, nheads, angles)
  global<float> k, c;   // (tokens, nheads, rank, d_state)
  global<float> out;    // (tokens, nheads, rank, headdim)
  int nheads, headdim, ngroups, d_state, rank, count;
  float norm_eps, a_floor;
  bool mimo, raw_steps, angles_by_head;
};

struct Step {
  float dt, alpha, own, carried;
};

__device__ Step step_of(const Mamba3Args& a, int64_t t, int head) {
  float dt = a.dt[t][head] + (a.dt_bias ? a.dt_bias[head] : 0), adt = a.adt[t][head];
  if (a.raw_steps) {
    dt = softplus(dt);
    const float rate = adt < 0 ? 1 / (1 - adt) : 1 + adt;
    adt = -(rate < a.a_floor ? a.a_floor : rate) * dt;
  }
  const float tau = sigmoid(a.trap[t][head]);
  return {dt, expf(adt), tau * dt, (1 - tau) * dt};
}

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) mamba3_angles(Mamba3Args a) {
  const int64_t index = int64_t(blockIdx.x) * kThreads + threadIdx.x, per_sequence = int64_t(a.nheads) * a.count;
  if (index >= per_sequence * a.sequences.count) return;
  const int s = int(index / per_sequence), head = int(index % per_sequence / a.count), i = int(index % a.count);
  const global<float> state = a.angle_state[a.sequences.slot(s)] + int64_t(head) * a.count + i;
  float theta = *state;
  for (int t = a.sequences.begin(s); t < a.sequences.end(s); ++t) {
    const float raw = a.angles[t][(a.angles_by_head ? int64_t(head) * a.count : 0) + i];
    const float next = theta + 3.14159265f * tanhf(raw) * step_of(a, t, head).dt;
    const float turns = floorf(next * 0.159154943f);
    theta = next - turns * 6.2831855f + turns * 1.7484556e-7f;
    theta = theta < 0 || theta > 6.2831853f ? 0 : theta;
    a.theta[(int64_t(t) * a.nheads + head) * a.count + i] = theta;
  }
  *state = theta;
}

// The channel that one is rotated with, and whether it is the first of the two; -1: not rotated.
__device__ int partner(const Mamba3Args& a, int channel, int* angle, bool* first) {
  if (!a.mimo) {
    *angle = channel / 2, *first = channel % 2 == 0;
    return channel < 2 * a.count ? channel ^ 1 : -1;
  }
  const int half = a.d_state / 2;
  *first = channel < half, *angle = *first ? channel : channel - half;
  return *angle < a.count && channel < 2 * half ? (*first ? channel + half : channel - half) : -1;
}

__global__ void __launch_bounds__(kThreads) mamba3_rotate(Mamba3Args a) {
  const int64_t row = blockIdx.x;  // (token, head, rank)
  const int channel = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (channel >= a.d_state) return;
  const int64_t t = row / a.rank / a.nheads;
  const int head = int(row / a.rank % a.nheads), r = int(row % a.rank), group = head / (a.nheads / a.ngroups);
  const int64_t at = (int64_t(r) * a.ngroups + group) * a.d_state, bias = int64_t(r) * a.d_state;
  int angle;
  bool first;
  const int other = partner(a, channel, &angle, &first);
  float k = a.B[t][at + channel] + a.B_bias[head][bias + channel];
  float c = a.C[t][at + channel] + a.C_bias[head][bias + channel];
  if (other >= 0) {
    const float theta = a.theta[(t * a.nheads + head) * a.count + angle];
    const float cosine = cosf(theta), sine = first ? -sinf(theta) : sinf(theta);
    k = k * cosine + (a.B[t][at + other] + a.B_bias[head][bias + other]) * sine;
    c = c * cosine + (a.C[t][at + other] + a.C_bias[head][bias + other]) * sine;
  }
  a.k[row * a.d_state + channel] = k;
  a.c[row * a.d_state + channel] = c;
}

// S = α (S + carried Σ v_r k_r of the token before) + own Σ v_r k_r, out_r = S c_r
template <int R>
__global__ void __launch_bounds__(kHeadThreads, head_blocks(R)) mamba3_state(Mamba3Args a) {
  const int s = int(blockIdx.x) / a.nheads, head = int(blockIdx.x) % a.nheads;
  const int begin = a.sequences.begin(s), end = a.sequences.end(s), slot = a.sequences.slot(s);
  if (begin >= end) return;  // the whole block
  const int part = int(threadIdx.x) % kKeyLanes, j = int(blockIdx.y) * kHeadColumns + int(threadIdx.x) / kKeyLanes;
  const bool active = j < a.headdim;
  const int column = active ? j : 0;
  const global<float> memory = a.ssm_state[slot] + (int64_t(head) * a.headdim + column) * a.d_state;
  Column<R> S(memory, 1, part, active ? a.d_state : 0);
  S.load();
  const global<float> v_state = a.v_state[slot] + int64_t(head) * a.headdim + column;
  const int64_t k_at = int64_t(head) * a.d_state, k_stride = int64_t(a.nheads) * a.d_state;
  float x_before = *v_state;
  for (int t = begin; t < end; ++t) {
    const Step step = step_of(a, t, head);
    const float x = a.x[t][int64_t(head) * a.headdim + column];
    const int64_t row = (int64_t(t) * a.nheads + head) * a.rank, before = row - int64_t(a.nheads) * a.rank;
    for (int r = 0; r < a.rank; ++r) {
      const float factor = a.mimo ? a.mimo_x[head][int64_t(r) * a.headdim + column] : 1;
      const float own = step.own * factor * x, carried = step.alpha * step.carried * factor * x_before;
      const float decay = r == 0 ? step.alpha : 1;
      S.each([&](float& state, int i) {
        if (i >= a.d_state) return;
        const float k_before = t > begin ? a.k[(before + r) * a.d_state + i] : a.k_state[slot][r * k_stride + k_at + i];
        state = decay * state + carried * k_before + own * a.k[(row + r) * a.d_state + i];
      });
    }
    for (int r = 0; r < a.rank; ++r) {
      float y = 0;
      S.each([&](float& state, int i) {
        if (i < a.d_state) y += state * a.c[(row + r) * a.d_state + i];
      });
      y = key_sum(y);
      if (active && part == 0) a.out[(row + r) * a.headdim + j] = y;
    }
    x_before = x;
  }
  S.store();
}

// One head of one token: the sum over ranks of norm(out_r + D v_r) ∘ silu(z ∘ mimoZ_r) ∘ mimoO_r.
__global__ void __launch_bounds__(kThreads) mamba3_finish(Mamba3Args a) {
  const int64_t index = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= int64_t(a.sequences.tokens) * a.nheads) return;
  const int64_t t = index / a.nheads;
  const int head = int(index % a.nheads);
  const int64_t at = int64_t(head) * a.headdim;
  for (int r = 0; r < a.rank; ++r) {
    const global<float> out = a.out + (index * a.rank + r) * a.headdim;
    const int64_t row = int64_t(r) * a.headdim;
    auto value = [&](int p) {
      const float v = a.x[t][at + p] * (a.mimo ? a.mimo_x[head][row + p] : 1);
      return out[p] + (a.D ? a.D[head] * v : 0);
    };
    float scale = 1;
    if (a.norm_weight) {
      float squares = 0;
      for (int p = 0; p < a.headdim; ++p) squares += value(p) * value(p);
      scale = 1 / sqrtf(squares / float(a.headdim) + a.norm_eps);
    }
    for (int p = 0; p < a.headdim; ++p) {
      float o = value(p);
      if (a.norm_weight) o *= scale * a.norm_weight[head][p];
      if (a.z) o *= silu(a.z[t][at + p] * (a.mimo ? a.mimo_z[head][row + p] : 1));
      if (a.mimo) o *= a.mimo_o[head][row + p];
      a.y[t][at + p] = r == 0 ? o : a.y[t][at + p] + o;
    }
  }
}

// k and x of each sequence's last token.
__global__ void __launch_bounds__(kThreads) mamba3_last(Mamba3Args a) {
  const int s = int(blockIdx.x) / a.nheads, head = int(blockIdx.x) % a.nheads;
  const int end = a.sequences.end(s), slot = a.sequences.slot(s);
  if (a.sequences.begin(s) >= end) return;
  const int64_t row = (int64_t(end - 1) * a.nheads + head) * a.rank;
  for (int i = int(threadIdx.x); i < a.rank * a.d_state; i += kThreads) {
    const int r = i / a.d_state, channel = i % a.d_state;
    a.k_state[slot][(int64_t(r) * a.nheads + head) * a.d_state + channel] = a.k[row * a.d_state + i];
  }
  for (int p = int(threadIdx.x); p < a.headdim; p += kThreads)
    a.v_state[slot][int64_t(head) * a.headdim + p] = a.x[end - 1][int64_t(head) * a.headdim + p];
}

}  // namespace

template <>
void run(const Mamba3& op) {
  const int64_t tokens = op.x[0], nheads = op.x[1], headdim = op.x[2], rank = op.rank(), d_state = op.d_state();
  const int64_t rows = tokens * nheads * rank, angles = op.angle_count();
  if (tokens == 0) return;
  const Scratch<float> theta(larger<int64_t>(1, tokens * nheads * angles)), k(rows * d_state), c(rows * d_state),
      out(rows * headdim);
  Mamba3Args a{op.x,
               op.B,
               op.C,
               op.dt,
               op.adt,
               op.trap,
               op.angles,
               op.B_bias,
               op.C_bias,
               op.z,
               op.mimo_x,
               op.mimo_z,
               op.mimo_o,
               op.norm_weight,
               global_data<const float>(op.D),
               global_data<const float>(op.dt_bias),
               op.angle_state,
               op.ssm_state,
               op.k_state,
               op.v_state,
               op.y,
               Sequences(op.cu_seqlens, op.slots, tokens),
               theta.data(),
               k.data(),
               c.data(),
               out.data(),
               int(nheads),
               int(headdim),
               int(op.ngroups()),
               int(d_state),
               int(rank),
               int(angles),
               op.norm_eps,
               op.a_floor,
               op.mimo(),
               op.raw_steps,
               op.angles.rank == 3};
  const int64_t sequences = a.sequences.count, heads = sequences * nheads;
  launch(mamba3_angles, {ceil_div(heads * angles, kThreads)}, kThreads, a);
  launch(mamba3_rotate, {rows, ceil_div(d_state, kThreads)}, kThreads, a);
  const auto state = d_state <= 4 * kKeyLanes    ? mamba3_state<4>
                     : d_state <= 8 * kKeyLanes  ? mamba3_state<8>
                     : d_state <= 16 * kKeyLanes ? mamba3_state<16>
                     : d_state <= kMostKeys      ? mamba3_state<32>
                                                 : mamba3_state<0>;
  launch(state, {heads, ceil_div(headdim, kHeadColumns)}, kHeadThreads, a);
  launch(mamba3_finish, {ceil_div(tokens * nheads, kThreads)}, kThreads, a);
  launch(mamba3_last, {heads}, kThreads, a);
}

}  // namespace statespace::cuda
