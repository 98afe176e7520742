// Systems over whole sequences (S4, dense state spaces, Hyena), and the small steps around the recurrences.
#include <cmath>

#include "bench/case.h"
#include "ops/ops.h"

namespace statespace::bench {
namespace {

constexpr int64_t kTokens = 16384, kChannels = 1024, kStates = 32;

// S4's parameters of 1024 channels: poles left of the imaginary axis.
template <class Op>
void s4_system(Op& op, Tensors& t, bool low_rank) {
  op.A = t.values({kChannels, kStates, 2}, -1, -0.5f);
  op.B = t.values({kChannels, kStates, 2}), op.C = t.values({kChannels, kStates, 2});
  op.log_dt = t.values({kChannels}, -6, -3), op.method = low_rank;
  if (low_rank) op.P = t.values({kChannels, kStates, 2});
}

Case s4_kernel(int64_t length, bool low_rank) {
  // Diagonal: two multiply-adds a state. With P: four quotients of complex f64 a state and point, and the transform.
  const double each = low_rank ? kStates * 40.0 + 5 * std::log2(double(length)) : kStates * 4.0;
  return make_case<S4Kernel>(
      "1024 channels, d_state 32, length " + std::to_string(length) + (low_rank ? ", low rank" : ""), length,
      double(length * kChannels) * each,
      low_rank ? "in f64, which many GPUs compute at 1/32 or 1/64 of the rate; each pass goes through memory"
               : "powers of each state pass through memory; on f32 units, no tensor cores",
      [=](S4Kernel& op, Tensors& t) {
        s4_system(op, t, low_rank), op.K = t.values({kChannels, length});
      });
}

Case s4_conv(int64_t length) {
  return make_case<S4Conv>("1024 channels, d_state 32, 1 x " + std::to_string(length), length,
                           double(length * kChannels) * (kStates * 4 + 3 * 5 * 12),
                           "s4Kernel, then fftConv: the kernel is written and read again", [=](S4Conv& op, Tensors& t) {
                             s4_system(op, t, false);
                             op.x = t.values({length, kChannels}), op.y = t.values({length, kChannels});
                           });
}

Case dense_scan(int64_t sequences, int64_t length) {
  const int64_t n = 256, T = sequences * length;
  return make_case<DenseScan>(
      "d_state 256, " + std::to_string(sequences) + " x " + std::to_string(length), T, double(T * n * n) * 2,
      "a block a sequence reads all of A for each token, from the L2 cache", [=](DenseScan& op, Tensors& t) {
        op.v = t.values({T, n}), op.A = t.values({n, n}, -0.01f, 0.01f), op.cu_seqlens = t.bounds(sequences, length);
        op.state = t.values({sequences, n}), op.h = t.values({T, n});
      });
}

Case dense_conv(int64_t sequences, int64_t length) {
  const int64_t n = 256, width = 64, T = sequences * length;
  return make_case<DenseConv>(
      "d_state 256, 64 inputs and outputs, " + std::to_string(sequences) + " x " + std::to_string(length), T,
      double(T * n * (n + 2 * width)) * 2,
      "as a recurrence in f64, a block a sequence: A from the L2 cache for each token", [=](DenseConv& op, Tensors& t) {
        op.x = t.values({T, width}), op.A = t.values({n, n}, -0.01f, 0.01f), op.B = t.values({n, width});
        op.C = t.values({width, n}), op.cu_seqlens = t.bounds(sequences, length), op.y = t.values({T, width});
      });
}

Case discretize_dense() {
  const int64_t n = 64;
  return make_case<DiscretizeDense>("d_state 64, zoh", 1, 20 * 2 * std::pow(double(n + 1), 3),
                                    "one block, in f64: run once, when a model is loaded",
                                    [=](DiscretizeDense& op, Tensors& t) {
                                      op.A = t.values({n, n}), op.B = t.values({n, 1});
                                      op.Abar = t.values({n, n}), op.Bbar = t.values({n, 1}), op.delta = 0.1f;
                                    });
}

Case implicit_filter() {
  const int64_t length = kTokens, width = 64, emb = 5, channels = 2 * 864, inner = 2;
  return make_case<ImplicitFilter>(
      "1728 channels, width 64, " + std::to_string(length) + " positions", length,
      double(length * width) * 2 * double(emb + inner * width + channels),
      "a launch a layer: rows of 64 pass through memory; products in f32", [=](ImplicitFilter& op, Tensors& t) {
        op.z = t.values({length, emb}), op.t = t.values({length}, 0, 1);
        op.in_weight = t.values({width, emb}), op.in_bias = t.values({width});
        op.hidden_weight = t.values({inner, width, width}), op.hidden_bias = t.values({inner, width});
        op.out_weight = t.values({channels, width}), op.freq = t.values({width}), op.deltas = t.values({channels});
        op.kernel = t.values({length, channels});
      });
}

// New tokens of one sequence behind `past` others, whose inputs are read again.
Case long_conv(int64_t past, int64_t tokens) {
  const int64_t channels = kChannels, page = 64, all = past + tokens, pages = (all + page - 1) / page;
  Case c = make_case<LongConv>(
      "1024 channels, " + std::to_string(tokens) + " behind " + std::to_string(past), tokens,
      double(channels) * (tokens == 1 ? 2.0 * double(all) : 2.0 * double(past * tokens) + 3 * 5 * 12 * double(tokens)),
      past == 0 ? "kernel and x through a transform: see fftConv, and the taps are transposed first"
                : "new tokens meet each earlier one term by term, on f32 units",
      [=](LongConv& op, Tensors& t) {
        op.x = t.values({tokens, channels}), op.kernel = t.values({all, channels}), op.D = t.values({channels});
        op.cu_seqlens = t.bounds(1, tokens);
        std::vector<int32_t> positions, table;
        for (int64_t i = past; i < all; ++i) positions.push_back(int32_t(i));
        for (int64_t i = 0; i < pages; ++i) table.push_back(int32_t(i));
        op.positions = t.integers(positions), op.page_table = t.integers(table);
        op.page_table.rank = 2, op.page_table.shape[0] = 1, op.page_table.shape[1] = op.page_table.row_stride = pages;
        op.history = t.values({pages, 1, page, channels}), op.y = t.values({tokens, channels});
      });
  c.bytes += double(past * channels) * 4;
  return c;
}

}  // namespace

std::vector<Case> system_cases() {
  std::vector<Case> all = {s4_kernel(16384, false), s4_kernel(4096, true), s4_conv(4096),      dense_scan(8, 2048),
                           dense_scan(64, 1),       dense_conv(8, 2048),   discretize_dense(), implicit_filter(),
                           long_conv(0, 16384),     long_conv(16383, 1)};
  const int64_t heads = 64, key = 64;
  all.push_back(make_case<Wkv7Keys>("64 heads of 64", kTokens, double(kTokens * heads * key) * 10, "",
                                    [=](Wkv7Keys& op, Tensors& t) {
                                      op.k = t.values({kTokens, heads, key}), op.a = t.values({kTokens, heads, key});
                                      op.kk = t.values({heads, key}), op.ka = t.values({heads, key});
                                      op.y = t.values({kTokens, 3, heads, key});
                                    }));
  all.push_back(make_case<Wkv7Bonus>("64 heads of 64", kTokens, double(kTokens * heads * key) * 5, "",
                                     [=](Wkv7Bonus& op, Tensors& t) {
                                       op.x = t.values({kTokens, heads, key}), op.r = t.values({kTokens, heads, key});
                                       op.k = t.values({kTokens, heads, key}), op.v = t.values({kTokens, heads, key});
                                       op.u = t.values({heads, key}), op.y = t.values({kTokens, heads, key});
                                     }));
  all.push_back(make_case<RetentionScale>("16 heads of 256", kTokens, double(kTokens * 16 * 256), "",
                                          [=](RetentionScale& op, Tensors& t) {
                                            op.x = t.values({kTokens, 16, 256}), op.y = t.values({kTokens, 16, 256});
                                            op.log_decay = t.values({16}, -0.1f, -0.01f);
                                          }));
  return all;
}

}  // namespace statespace::bench
