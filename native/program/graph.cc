#include "program/graph.h"

#include <algorithm>
#include <cstring>

#include "core/check.h"
#include "core/error.h"
#include "core/op_fields.h"
#include "ops/ops.h"

namespace statespace {
namespace {

constexpr uint32_t kMagic = 0x47505353;  // "SSPG"
constexpr uint32_t kVersion = 3;
constexpr int64_t kMaxElements = int64_t(1) << 40;

// Stand-ins for the batch's dims while shapes are checked: primes that no model has as a width.
constexpr int64_t kStandIn[kBatchDims] = {1000003, 1000033, 1000037};

[[noreturn]] void bad(const std::string& what) { throw Error(Code::kArgument, "graph: " + what); }

class Reader {
 public:
  Reader(const uint8_t* p, int64_t n) : p_(p), end_(p + n) {}
  template <class T>
  T get() {
    if (end_ - p_ < int64_t(sizeof(T))) bad("ends too early");
    T v;
    std::memcpy(&v, p_, sizeof(T));
    p_ += sizeof(T);
    return v;
  }
  std::string text(int64_t n) {
    if (end_ - p_ < n) bad("ends too early");
    std::string s(reinterpret_cast<const char*>(p_), n);
    p_ += n;
    return s;
  }
  bool done() const { return p_ == end_; }
  int64_t left() const { return end_ - p_; }

 private:
  const uint8_t *p_, *end_;
};

Value read_value(Reader& in, const Graph& g) {
  Value v;
  const int kind = in.get<uint8_t>(), dtype = in.get<uint8_t>();
  v.rank = in.get<uint8_t>();
  v.cleared = in.get<uint8_t>() & 1;
  const bool known = dtype < kDTypes && (is_held(DType(dtype)) || DType(dtype) == DType::i32);
  if (kind > int(ValueKind::fixed) || !known || v.rank > kMaxRank) bad("a value of unknown kind, dtype or rank");
  v.kind = static_cast<ValueKind>(kind);
  v.dtype = static_cast<DType>(dtype);
  const bool batched = v.kind == ValueKind::activation || v.kind == ValueKind::view || v.kind == ValueKind::input;
  int64_t elements = 1;
  for (int i = 0; i < v.rank; ++i) {
    v.dims[i] = in.get<int32_t>();
    const bool batch_dim = batched && i == 0;
    if (batch_dim ? v.dims[i] < -kBatchDims || v.dims[i] >= 0 : v.dims[i] < 0) bad("a value with impossible dims");
    if (!batch_dim && __builtin_mul_overflow(elements, v.dims[i], &elements)) bad("a value too large");
  }
  if (elements > kMaxElements) bad("a value too large");
  if (batched && (v.rank < 1 || v.dtype != DType::f32)) bad("an activation must be f32 rows");
  if (v.kind == ValueKind::fixed && v.dtype != DType::f32) bad("what is written must be f32");
  if (v.cleared && v.kind != ValueKind::activation) bad("only activations are cleared");
  if (v.kind == ValueKind::cache && v.rank != 2) bad("a cache must be (nheads, headdim)");
  if (v.kind == ValueKind::view) {
    v.parent = in.get<int32_t>();
    v.offset = in.get<int32_t>();
    if (v.parent < 0 || v.parent >= int64_t(g.values.size())) bad("a view of no earlier value");
    const Value& parent = g.values[v.parent];
    const bool rows =
        parent.kind == ValueKind::activation || parent.kind == ValueKind::view || parent.kind == ValueKind::input;
    if (!rows || parent.dims[0] != v.dims[0] || v.offset < 0 || v.offset + v.row_size() > parent.row_size())
      bad("a view outside its value");
  }
  if (v.kind == ValueKind::state) {
    const int32_t n = in.get<int32_t>();
    if (n != 0 && (v.rank < 1 || n != v.dims[0] || in.left() / int64_t(sizeof(float)) < n))
      bad("a state filled with another number of rows");
    for (int32_t i = 0; i < n; ++i) v.fill.push_back(in.get<float>());
  }
  return v;
}

Runtime runtime_of(const std::string& field) {
  constexpr const char* kNames[kRuntimes] = {"",     "cuSeqlens", "slots",      "positions", "ids",
                                             "rows", "pageTable", "keyLengths", "targets",   ""};
  for (int i = 1; i < kRuntimes - 1; ++i)
    if (field == kNames[i]) return static_cast<Runtime>(i);
  return Runtime::absent;
}

// A tensor as the op will see it, with stand-ins for the batch and a dummy address.
Tensor stand_in(const Graph& g, int32_t id) {
  static char anywhere[64];
  const Value& v = g.values[id];
  Tensor t;
  t.data = anywhere;
  t.dtype = v.dtype;
  if (v.kind == ValueKind::cache) {
    t.rank = 4;
    t.shape[0] = 999983, t.shape[1] = v.dims[0], t.shape[2] = 64, t.shape[3] = v.dims[1];
  } else {
    const int pool = v.kind == ValueKind::state;
    t.rank = v.rank + pool;
    if (pool) t.shape[0] = 999983;
    for (int i = 0; i < v.rank; ++i) t.shape[i + pool] = v.dims[i] < 0 ? kStandIn[-1 - v.dims[i]] : v.dims[i];
  }
  t.row_stride = t.row_size();
  return t;
}

// The same for what the runner will fill in.
Tensor stand_in(Runtime which) {
  static int32_t anything[1];
  Tensor t;
  t.dtype = DType::i32;
  t.rank = which == Runtime::page_table ? 2 : 1;
  t.shape[0] = kStandIn[2];
  t.shape[1] = 999979;  // max_pages
  if (which == Runtime::cu_seqlens) t.shape[0] = kStandIn[2] + 1;
  if (which == Runtime::positions || which == Runtime::ids) t.shape[0] = kStandIn[0];
  if (which == Runtime::rows) t.shape[0] = kStandIn[1];
  t.row_stride = t.row_size();
  t.data = which == Runtime::none || which == Runtime::absent ? nullptr : anything;
  return t;
}

// The runs that a node takes part in, as bits: over whole sequences, over streams.
constexpr uint8_t kBoth = 3, kRunsIn[] = {kBoth, 1, 2};
// And beside them: some op reads it.
constexpr uint8_t kRead = 4;

// Reads what each tensor of an op is; adds the values that the op writes to `outputs`.
void read_tensors(Reader& in, const Graph& g, Node& node, const std::string& name, const OpFields& fields,
                  std::vector<uint8_t>& written, std::vector<int32_t>& outputs) {
  const uint8_t runs = kRunsIn[int(node.when)];
  for (const OpTensor& f : fields.tensors) {
    const std::string field = f.name;
    const bool runtime = f.kind == FieldKind::runtime;
    node.runtimes.push_back(runtime ? runtime_of(field) : Runtime::none);
    const int32_t id = in.get<int32_t>();
    node.values.push_back(id);
    if (runtime ? id != -1 : id < -1 || id >= int64_t(g.values.size())) bad(name + ": " + field + " names no value");
    if (runtime) *f.tensor = stand_in(node.runtimes.back());
    // One for each row of what the loss is of, which comes first.
    if (runtime && node.runtimes.back() == Runtime::targets && node.values.front() >= 0)
      f.tensor->shape[0] = stand_in(g, node.values.front()).shape[0];
    if (id < 0) continue;
    const ValueKind value = g.values[id].kind;
    const bool remembered = value == ValueKind::state || value == ValueKind::cache;
    if (f.kind == FieldKind::state && !remembered) bad(name + ": " + field + " must be a state");
    if (value == ValueKind::state && f.kind != FieldKind::state) bad(name + ": " + field + " cannot be a state");
    if (is_written(f.kind)) {
      const ValueKind to = g.values[g.root(id)].kind;
      if (to != ValueKind::activation && to != ValueKind::fixed) bad(name + ": " + field + " must be an activation");
      outputs.push_back(g.root(id));
      if (f.kind == FieldKind::wanted && to == ValueKind::fixed) node.gradients.push_back(g.root(id));
    } else if (value == ValueKind::activation || value == ValueKind::view) {
      if ((written[g.root(id)] & runs) != runs && g.values[g.root(id)].kind == ValueKind::activation)
        bad(name + ": " + field + " is read before it is written");
    } else if (value == ValueKind::fixed) {
      written[id] |= kRead;
    }
    *f.tensor = stand_in(g, id);
  }
}

void read_attrs(Reader& in, const std::string& name, const OpFields& fields) {
  for (const OpAttr& attr : fields.attrs) {
    const double number = in.get<double>();
    if (float* const* real = std::get_if<float*>(&attr.value)) {
      **real = float(number);
      continue;
    }
    if (!(number >= -0x1p53 && number <= 0x1p53)) bad(name + ": " + attr.name + " is not an integer");
    std::visit([&](auto* value) { *value = std::remove_reference_t<decltype(*value)>(int64_t(number)); }, attr.value);
    if (int32_t* const* choice = std::get_if<int32_t*>(&attr.value)) {
      const std::string choices = attr.choices;
      if (**choice < 0 || **choice > std::count(choices.begin(), choices.end(), '|'))
        bad(name + ": " + attr.name + " is no choice");
    }
  }
}

template <class Op>
void read_node(Reader& in, Graph& g, Node& node, std::vector<uint8_t>& written) {
  Op op;
  const OpFields fields(op);
  std::vector<int32_t> outputs;
  read_tensors(in, g, node, Op::kName, fields, written, outputs);
  read_attrs(in, Op::kName, fields);
  check(op);
  node.demands = demands_of(op);
  for (const OpTensor& f : fields.tensors) {
    *f.tensor = Tensor();
    node.offsets.push_back(size_t(reinterpret_cast<const char*>(f.tensor) - reinterpret_cast<const char*>(&op)));
  }
  for (const OpAttr& attr : fields.attrs)
    if (bool* const* flag = std::get_if<bool*>(&attr.value); flag && attr.name == std::string("accumulate"))
      node.accumulate = reinterpret_cast<const char*>(*flag) - reinterpret_cast<const char*>(&op);
  static_assert(std::is_trivially_copyable_v<Op>);
  node.prototype.assign(reinterpret_cast<const char*>(&op), reinterpret_cast<const char*>(&op) + sizeof(Op));
  for (int32_t id : outputs) written[id] |= kRunsIn[int(node.when)];
}

// Which gradients can be added to: a switch is for all that its op writes, and a gradient needs that of all its ops.
// One that is read again (of a weight that an op makes) is that of one part of a batch.
void find_added(Graph& g, const std::vector<uint8_t>& written) {
  for (const Node& node : g.nodes)
    for (int32_t id : node.gradients) g.values[id].added = !(written[id] & kRead);
  for (bool changed = true; changed;) {
    changed = false;
    for (Node& node : g.nodes) {
      const auto added = [&](int32_t id) { return g.values[id].added; };
      const bool all = std::all_of(node.gradients.begin(), node.gradients.end(), added);
      const bool any = std::any_of(node.gradients.begin(), node.gradients.end(), added);
      if (node.accumulate >= 0 ? all : !any) continue;
      node.accumulate = -1;
      for (int32_t id : node.gradients) g.values[id].added = false;
      changed = true;
    }
  }
}

}  // namespace

Graph decode_graph(const uint8_t* bytes, int64_t size) {
  Reader in(bytes, size);
  if (in.get<uint32_t>() != kMagic) bad("not a graph");
  if (in.get<uint32_t>() != kVersion) bad("of another version");
  const uint32_t values = in.get<uint32_t>(), nodes = in.get<uint32_t>();
  Graph g;
  g.output = in.get<int32_t>();
  if (values > in.left() || nodes > in.left()) bad("ends too early");
  for (uint32_t i = 0; i < values; ++i) g.values.push_back(read_value(in, g));
  std::vector<uint8_t> written(values, 0);  // in which runs
  for (uint32_t i = 0; i < nodes; ++i) {
    const std::string name = in.text(in.get<uint8_t>());
    Node node;
    node.op = find_op(name);
    if (node.op < 0) bad("unknown op '" + name + "'");
    const uint8_t when = in.get<uint8_t>();
    if (when > uint8_t(When::stream)) bad(name + ": runs at no known time");
    node.when = static_cast<When>(when);
    with_op(node.op, [&]<class Op>() { read_node<Op>(in, g, node, written); });
    g.nodes.push_back(std::move(node));
  }
  if (!in.done()) bad("bytes behind its end");
  find_added(g, written);
  const auto is_output = [&](const Value& v) { return v.kind == ValueKind::activation || v.kind == ValueKind::fixed; };
  if (g.output < 0 || g.output >= int64_t(values) || !is_output(g.values[g.output]) ||
      (written[g.output] & kBoth) != kBoth)
    bad("its output is not written");
  return g;
}

}  // namespace statespace
