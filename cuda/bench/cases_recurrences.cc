// Kernels over time: sizes of Mamba 2.8B, RWKV 7B, RetNet and Qwen3-Next; a batch of prefills, one long prompt, decode.
#include "bench/case.h"
#include "ops/ops.h"

namespace statespace::bench {
namespace {

struct Load {
  const char* name;
  int64_t sequences, length;
  int64_t tokens() const { return sequences * length; }
};
constexpr Load kLoads[] = {{"8 x 2048", 8, 2048}, {"1 x 16384", 1, 16384}, {"64 x 1", 64, 1}};

Case scan(const Load& load) {
  const int64_t T = load.tokens(), D = 5120, N = 16;
  return make_case<SelectiveScan>(
      std::string("d_inner 5120, d_state 16, ") + load.name, T, double(T * D) * (N * 8 + 12),
      load.length == 1      ? "A is read again for every sequence, from the L2 cache"
      : load.sequences == 1 ? "split over time: u, delta and B are read twice"
                            : "instructions: a lane makes 128 exponentials and 192 shuffles for 8 tokens",
      [=](SelectiveScan& op, Tensors& t) {
        op.u = t.values({T, D}), op.delta = t.values({T, D}, -4, -1), op.A = t.values({D, N}, -8, -1);
        op.B = t.values({T, 1, N}), op.C = t.values({T, 1, N}), op.D = t.values({D}), op.z = t.values({T, D});
        op.delta_bias = t.values({D}), op.delta_softplus = true;
        op.cu_seqlens = t.bounds(load.sequences, load.length);
        op.state = t.values({load.sequences, D, N}), op.y = t.values({T, D});
      });
}

Case wkv4(const Load& load) {
  const int64_t T = load.tokens(), C = 4096;
  return make_case<Wkv4>(
      std::string("channels 4096, ") + load.name, T, double(T * C) * 20,
      load.length == 1 ? "" : "a thread waits for each token's k and v: latency, where few channels run",
      [=](Wkv4& op, Tensors& t) {
        op.k = t.values({T, C}), op.v = t.values({T, C}), op.time_decay = t.values({C}), op.time_first = t.values({C});
        op.cu_seqlens = t.bounds(load.sequences, load.length), op.state = t.values({load.sequences, 3, C}, 0, 1);
        op.y = t.values({T, C});
      });
}

// Values of `key` and `value` heads that every rule over a head's matrix has; operations per value of the matrix.
template <class Op, class Make>
Case heads(const Load& load, const char* shape, int64_t nheads, int64_t key, int64_t value, double operations,
           const char* loses, Make make) {
  const int64_t T = load.tokens();
  return make_case<Op>(std::string(shape) + ", " + load.name, T, double(T * nheads * key * value) * operations,
                       load.length == 1 ? "" : loses, [=](Op& op, Tensors& t) {
                         op.v = t.values({T, nheads, value}), op.y = t.values({T, nheads, value});
                         op.state = t.values({load.sequences, nheads, key, value});
                         op.cu_seqlens = t.bounds(load.sequences, load.length);
                         make(op, t, T);
                       });
}

constexpr const char* kSerial = "token by token on f32 units: no tensor cores, and with few heads a chain of latencies";
constexpr const char* kSplit = "on f32 units, no tensor cores; one long sequence is split over time and read twice";

}  // namespace

std::vector<Case> recurrence_cases() {
  std::vector<Case> all;
  for (const Load& load : kLoads) all.push_back(scan(load));
  for (const Load& load : kLoads) all.push_back(wkv4(load));
  for (const Load& load : kLoads)
    all.push_back(heads<Wkv6>(load, "64 heads of 64", 64, 64, 64, 6, kSplit, [](Wkv6& op, Tensors& t, int64_t T) {
      op.r = t.values({T, 64, 64}), op.k = t.values({T, 64, 64}), op.w = t.values({T, 64, 64}, -2, 0);
      op.u = t.values({64, 64});
    }));
  for (const Load& load : kLoads)
    all.push_back(heads<Wkv7>(load, "64 heads of 64", 64, 64, 64, 9, kSerial, [](Wkv7& op, Tensors& t, int64_t T) {
      op.r = t.values({T, 64, 64}), op.k = t.values({T, 64, 64}), op.w = t.values({T, 64, 64}, -2, 0);
      op.a = t.values({T, 64, 64}, -0.1f, 0.1f), op.b = t.values({T, 64, 64}, -0.1f, 0.1f);
    }));
  for (const Load& load : kLoads)
    all.push_back(
        heads<Retention>(load, "16 heads of 256", 16, 256, 256, 5, kSplit, [](Retention& op, Tensors& t, int64_t T) {
          op.q = t.values({T, 16, 256}), op.k = t.values({T, 16, 256}), op.log_decay = t.values({16}, -0.1f, 0);
        }));
  for (const Load& load : kLoads)
    all.push_back(heads<GatedDeltaRule>(load, "32 heads of 128", 32, 128, 128, 7, kSerial,
                                        [](GatedDeltaRule& op, Tensors& t, int64_t T) {
                                          op.q = t.values({T, 32, 128}, -0.1f, 0.1f);
                                          op.k = t.values({T, 32, 128}, -0.1f, 0.1f);
                                          op.g = t.values({T, 32}, -1, 0), op.beta = t.values({T, 32}, 0, 1);
                                        }));
  return all;
}

}  // namespace statespace::bench
