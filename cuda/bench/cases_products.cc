// Kernels of matrix products: sizes of Llama 3 8B, Mixtral 8x7B, Mamba-2 2.7B, Hyena and S4; prefill and decode.
#include "bench/case.h"
#include "ops/ops.h"

namespace statespace::bench {
namespace {

constexpr const char* kMmaSync =
    "mma.sync from 48 KB of shared memory, not wgmma with TMA: below the roofline's rate on sm_90 and later";

Case linear(int64_t rows, DType dtype) {
  const int64_t in = 4096, out = 14336;
  const bool few = rows <= 16;
  Case c = make_case<Linear>(
      std::string("4096 to 14336, ") + dtype_name(dtype) + " weight", rows, 2.0 * double(rows * in * out),
      few ? (rows > 4
                 ? "f32 multiply-adds: two columns a warp read x from shared memory twice as often as they multiply"
                 : "")
          : (dtype == DType::f32 ? "scalar tiles, no TF32: f32 is exact" : kMmaSync),
      [=](Linear& op, Tensors& t) {
        op.x = t.values({rows, in}), op.weight = t.values({out, in}, -1, 1, dtype), op.y = t.values({rows, out});
      });
  c.tensor_cores = !few && dtype != DType::f32;
  return c;
}

Case attention(const char* name, int64_t sequences, int64_t queries, int64_t keys, DType dtype) {
  const int64_t heads = 32, kv = 8, d = 128, T = sequences * queries, K = sequences * keys;
  // A causal query in a prefill sees half of the keys in the mean.
  const double seen = queries == keys ? 0.5 * double(keys) : double(keys);
  Case c = make_case<Attention>(
      std::string("32 heads on 8, headdim 128, ") + dtype_name(dtype) + ", " + name, T,
      4.0 * double(T * heads * d) * seen,
      queries == 1          ? "one warp a block: 4 of the 16 rows of its products are used (4 heads share a key head)"
      : dtype == DType::f32 ? "f32 multiply-adds, keys staged without asynchronous copies"
                            : "mma.sync, four warps, single-buffered keys and values; no wgmma, no warp specialisation",
      [=](Attention& op, Tensors& t) {
        op.q = t.values({T, heads, d}), op.k = t.values({K, kv, d}, -1, 1, dtype);
        op.v = t.values({K, kv, d}, -1, 1, dtype), op.y = t.values({T, heads, d});
        op.cu_seqlens = t.bounds(sequences, queries), op.cu_seqlens_k = t.bounds(sequences, keys);
        op.scale = 0.088f;
      });
  c.tensor_cores = dtype != DType::f32;
  return c;
}

Case ssd(const char* name, int64_t sequences, int64_t length, DType dtype) {
  const int64_t heads = 80, p = 64, n = 128, T = sequences * length, chunk = 64;
  // Scores C·B, their product with x, and the state read and updated, of chunks of 64.
  const double chunked = double(T * heads) * (2.0 * chunk * n + 2.0 * chunk * p + 4.0 * p * n);
  Case c = make_case<Ssd>(
      std::string("80 heads of 64, d_state 128, ") + dtype_name(dtype) + ", " + name, T,
      length == 1 ? double(T * heads * p * n) * 5 : chunked,
      length == 1
          ? "B and C are read again by every row of a head, from the cache"
          : "every product is one to three TF32 products, so that f32 bounds hold, at half the rate of bf16; C·B is "
            "found again for every head of a group; the state passes through L2 once a chunk",
      [=](Ssd& op, Tensors& t) {
        op.x = t.values({T, heads, p}, -1, 1, dtype), op.dt = t.values({T, heads}, -4, -1);
        op.A = t.values({heads}, -8, -1);
        op.B = t.values({T, 1, n}, -1, 1, dtype), op.C = t.values({T, 1, n}, -1, 1, dtype);
        op.D = t.values({heads}), op.dt_bias = t.values({heads}), op.dt_softplus = true;
        op.cu_seqlens = t.bounds(sequences, length);
        op.state = t.values({sequences, heads, p, n}), op.y = t.values({T, heads, p});
      });
  c.tensor_cores = length > 1;
  return c;
}

Case moe(int64_t tokens) {
  const int64_t d = 4096, ff = 14336, experts = 8, top = 2;
  Case c = make_case<Moe>(
      "8 experts of 4096 to 14336, 2 a token, bf16", tokens, double(tokens * top) * 6.0 * double(d * ff),
      tokens == 1 ? "the row counts every expert's weights; two of eight are read"
                  : "gate and up pass through memory in f32 before they are multiplied; mma.sync, not wgmma",
      [=](Moe& op, Tensors& t) {
        op.x = t.values({tokens, d}), op.router = t.values({experts, d}, -1, 1, DType::bf16);
        op.gate_up = t.values({experts, 2, ff, d}, -1, 1, DType::bf16);
        op.down = t.values({experts, d, ff}, -1, 1, DType::bf16), op.y = t.values({tokens, d}), op.top_k = top;
      });
  c.tensor_cores = tokens > 1;
  return c;
}

Case fft_conv(int64_t length) {
  const int64_t channels = 1024;
  return make_case<FftConv>(
      "1024 channels, 1 x " + std::to_string(length), length,
      // Three transforms of 4096 points for each 4096 values, and the products of spectra of long sequences.
      double(length * channels) * (3 * 5 * 12 + 8.0 * double(length) / 4096 / 2),
      length > 4096 ? "spectra pass through memory, and their products grow with the square of length / 4096"
                    : "a block reads one channel of each row: 4 of every 32 bytes, the rest from L2",
      [=](FftConv& op, Tensors& t) {
        op.x = t.values({length, channels}), op.kernel = t.values({channels, length}),
        op.y = t.values({length, channels});
      });
}

Case s4_recurrent(int64_t sequences, int64_t length) {
  const int64_t channels = 1024, n = 32, T = sequences * length;
  return make_case<S4Recurrent>(
      "1024 channels, d_state 32, " + std::to_string(sequences) + " x " + std::to_string(length), T,
      double(T * channels * n) * 10, "step by step: five shuffles a token and channel, and x is read a value at a time",
      [=](S4Recurrent& op, Tensors& t) {
        op.x = t.values({T, channels}), op.A = t.values({channels, n, 2}, -1, -0.5f);
        op.B = t.values({channels, n, 2}), op.C = t.values({channels, n, 2}), op.log_dt = t.values({channels}, -6, -3);
        op.cu_seqlens = t.bounds(sequences, length);
        op.state = t.values({sequences, channels, n, 2}), op.y = t.values({T, channels});
      });
}

}  // namespace

std::vector<Case> product_cases() {
  std::vector<Case> all;
  for (const DType dtype : {DType::f32, DType::bf16})
    for (const int64_t rows : {1, 16, 2048}) all.push_back(linear(rows, dtype));
  for (const DType dtype : {DType::f32, DType::bf16}) {
    all.push_back(attention("8 x 2048", 8, 2048, 2048, dtype));
    all.push_back(attention("64 x 1 on 4096 keys", 64, 1, 4096, dtype));
    all.push_back(attention("1 x 1 on 65536 keys", 1, 1, 65536, dtype));
    all.push_back(ssd("8 x 2048", 8, 2048, dtype));
    all.push_back(ssd("1 x 16384", 1, 16384, dtype));
    all.push_back(ssd("64 x 1", 64, 1, dtype));
  }
  for (const int64_t tokens : {1, 2048}) all.push_back(moe(tokens));
  for (const int64_t length : {4096, 32768}) all.push_back(fft_conv(length));
  all.push_back(s4_recurrent(8, 2048));
  all.push_back(s4_recurrent(64, 1));
  return all;
}

}  // namespace statespace::bench
