#pragma once
// A model as TypeScript described it, decoded and checked: values, and ops over them in order.
//
// The bytes (little endian), written by lib/graph/encode.ts:
//   u32 magic "SSPG", u32 version, u32 values, u32 nodes, i32 output
//   value: u8 kind, u8 dtype, u8 rank, u8 cleared, i32 dims[rank], then view: i32 parent, i32 offset; state: i32 n
//          and f32 fill[n], n = 0 or dims[0]
//   node:  u8 length, the op's name, u8 when, then in the order of fields(): i32 value id or -1 per tensor, f64 per
//          attribute
#include <cstdint>
#include <string>
#include <vector>

#include "core/demands.h"
#include "core/tensor.h"

namespace statespace {

// Dims that the batch decides.
constexpr int64_t kTokens = -1;     // all tokens of the batch
constexpr int64_t kOutputs = -2;    // the rows that a head is computed for
constexpr int64_t kSequences = -3;  // sequences of the batch
constexpr int kBatchDims = 3;

enum class ValueKind : uint8_t {
  activation,  // written by one op
  view,        // columns of an activation
  weight,
  state,  // per session, f32: dims without the pool axis
  cache,  // per session and token: dims (nheads, headdim), paged
  input,  // float rows fed instead of token ids: (tokens, features)
  fixed,  // f32 that the batch does not size, in memory of its owner's: the gradient of a weight, a loss
};

struct Value {
  ValueKind kind = ValueKind::activation;
  DType dtype = DType::f32;
  int rank = 0;
  int64_t dims[kMaxRank] = {};
  int32_t parent = -1;   // view
  int64_t offset = 0;    // view: first column
  bool cleared = false;  // activation: zeros before its first op writes a part of it
  bool added = false;    // fixed: a gradient that every op which writes it can also add to (Batch::adds)
  // state: what a new session's rows hold, one value per row of the first axis; none: zeros
  std::vector<float> fill;

  // Elements of one row (axis 0 left out).
  int64_t row_size() const {
    int64_t n = 1;
    for (int i = 1; i < rank; ++i) n *= dims[i];
    return n;
  }
  int64_t size() const { return rank ? dims[0] * row_size() : 1; }
};

// What the runner fills in for an op's runtime tensors.
enum class Runtime : uint8_t {
  none,
  cu_seqlens,
  slots,
  positions,
  ids,
  rows,
  page_table,
  key_lengths,
  targets,
  absent
};
constexpr int kRuntimes = 10;

// Some work has two forms: one over whole sequences, which start anew and are not continued, and one that carries a
// state.
enum class When : uint8_t { always, whole, stream };

struct Node {
  int op = -1;
  When when = When::always;
  std::vector<char> prototype;     // the op struct, its attributes set
  std::vector<size_t> offsets;     // per tensor field: where it lies in the struct
  std::vector<int32_t> values;     // per tensor field, in order; -1: absent or runtime
  std::vector<Runtime> runtimes;   // per tensor field
  std::vector<int32_t> gradients;  // fixed values that it writes because they are wanted
  // Where in the struct the switch lies that adds them to what is there; -1: none, or one that would add to a gradient
  // which another op writes over.
  int64_t accumulate = -1;
  Demands demands;
};

struct Graph {
  std::vector<Value> values;
  std::vector<Node> nodes;
  int32_t output = -1;

  // The activation or input whose memory a value lies in, and the first column there.
  int32_t root(int32_t id) const {
    while (values[id].kind == ValueKind::view) id = values[id].parent;
    return id;
  }
};

// Throws ERR_ARGUMENT for anything that is not a well-formed graph whose ops fit their tensors.
Graph decode_graph(const uint8_t* bytes, int64_t size);

}  // namespace statespace
