// What the newer hybrids mix with: sizes of Kimi Linear, MiniMax-01, RecurrentGemma, LFM2 and Mamba-3.
#include "bench/case.h"
#include "ops/ops.h"

namespace statespace::bench {
namespace {

struct Load {
  const char* name;
  int64_t sequences, length;
  int64_t tokens() const { return sequences * length; }
};
constexpr Load kLoads[] = {{"8 x 2048", 8, 2048}, {"64 x 1", 64, 1}};

Case kda(const Load& load) {
  const int64_t T = load.tokens(), H = 32, K = 128;
  return make_case<GatedDeltaRule>(
      std::string("32 heads of 128, a decay per key, ") + load.name, T, double(T * H * K * K) * 7,
      load.length == 1 ? "" : "token by token on f32 units: no tensor cores", [=](GatedDeltaRule& op, Tensors& t) {
        op.q = t.values({T, H, K}, -0.1f, 0.1f), op.k = t.values({T, H, K}, -0.1f, 0.1f);
        op.v = t.values({T, H, K}), op.g = t.values({T, H, K}, -1, 0), op.beta = t.values({T, H}, 0, 1);
        op.cu_seqlens = t.bounds(load.sequences, load.length);
        op.state = t.values({load.sequences, H, K, K}), op.y = t.values({T, H, K});
      });
}

Case gla(const Load& load) {
  const int64_t T = load.tokens(), H = 4, K = 256, V = 512;
  return make_case<Gla>(
      std::string("4 heads of 256 x 512, ") + load.name, T, double(T * H * K * V) * 5,
      load.length == 1 ? "" : "on f32 units, no tensor cores; one long sequence is split over time and read twice",
      [=](Gla& op, Tensors& t) {
        op.q = t.values({T, H, K}), op.k = t.values({T, H, K}), op.v = t.values({T, H, V});
        op.g = t.values({T, H, K}, -1, 0), op.cu_seqlens = t.bounds(load.sequences, load.length);
        op.state = t.values({load.sequences, H, K, V}), op.y = t.values({T, H, V});
      });
}

Case mamba3(const Load& load, int64_t rank) {
  const int64_t T = load.tokens(), H = 64, P = 64, N = 128, S = 32;
  const std::string shape = "64 heads of 64, d_state 128, rank " + std::to_string(rank) + ", ";
  return make_case<Mamba3>(
      shape + load.name, T, double(T * H * rank * P * N) * 6,
      "token by token on f32 units; rotated k and c go through memory", [=](Mamba3& op, Tensors& t) {
        op.x = t.values({T, H, P}), op.z = t.values({T, H, P}), op.dt = t.values({T, H}, 0.001f, 0.1f);
        op.adt = t.values({T, H}, -1, 0), op.trap = t.values({T, H}), op.angles = t.values({T, S});
        op.B = t.values({T, rank, 1, N}), op.C = t.values({T, rank, 1, N}), op.D = t.values({H});
        op.B_bias = t.values({H, rank, N}), op.C_bias = t.values({H, rank, N});
        op.mimo_x = t.values({H, rank, P}), op.mimo_z = t.values({H, rank, P}), op.mimo_o = t.values({H, rank, P});
        op.cu_seqlens = t.bounds(load.sequences, load.length);
        op.angle_state = t.values({load.sequences, H, S}), op.ssm_state = t.values({load.sequences, H, P, N});
        op.k_state = t.values({load.sequences, rank, H, N}), op.v_state = t.values({load.sequences, H, P});
        op.y = t.values({T, H, P});
      });
}

Case rg_lru(const Load& load) {
  const int64_t T = load.tokens(), H = 10, P = 256;
  return make_case<RgLru>(
      std::string("10 heads of 256, ") + load.name, T, double(T * H * P) * (4 * P + 24),
      "the gates are sums of one thread each, no tensor cores", [=](RgLru& op, Tensors& t) {
        op.x = t.values({T, H * P}), op.input_weight = t.values({H, P, P}), op.input_bias = t.values({H, P});
        op.recurrent_weight = t.values({H, P, P}), op.recurrent_bias = t.values({H, P});
        op.recurrent_param = t.values({H * P}), op.cu_seqlens = t.bounds(load.sequences, load.length);
        op.state = t.values({load.sequences, H * P}), op.y = t.values({T, H * P});
      });
}

Case short_conv(const Load& load) {
  const int64_t T = load.tokens(), D = 2048, K = 3;
  return make_case<ShortConv>(std::string("channels 2048, d_conv 3, ") + load.name, T, double(T * D) * (2 * K + 2),
                              "three launches: the products go through memory", [=](ShortConv& op, Tensors& t) {
                                op.b = t.values({T, D}), op.c = t.values({T, D}), op.x = t.values({T, D});
                                op.weight = t.values({D, K}), op.cu_seqlens = t.bounds(load.sequences, load.length);
                                op.state = t.values({load.sequences, D, K - 1}), op.y = t.values({T, D});
                              });
}

}  // namespace

std::vector<Case> hybrid_cases() {
  std::vector<Case> all;
  for (const Load& load : kLoads) {
    all.push_back(kda(load));
    all.push_back(gla(load));
    all.push_back(mamba3(load, 1));
    all.push_back(mamba3(load, 4));
    all.push_back(rg_lru(load));
    all.push_back(short_conv(load));
  }
  return all;
}

}  // namespace statespace::bench
