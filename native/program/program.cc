#include "program/program.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace statespace {
namespace {

constexpr int64_t kAlign = 64;
int64_t aligned(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

}  // namespace

void* BackendBuffer::reserve(int64_t bytes) {
  if (bytes <= bytes_ && data_) return data_;
  if (data_) backend_->free(data_);
  bytes_ = 0;
  data_ = backend_->alloc(std::max<int64_t>(bytes, kAlign));
  if (!data_) throw Error(Code::kOutOfMemory, "no memory for " + std::to_string(bytes) + " bytes of activations");
  bytes_ = std::max<int64_t>(bytes, kAlign);
  return data_;
}

int64_t Workspace::bytes() const {
  int64_t all = integers.bytes() + staged.bytes() + input.bytes() + scratch.bytes() + kept.bytes();
  for (const BackendBuffer& arena : arenas) all += arena.bytes();
  return all + int64_t(rows.capacity() * sizeof(float));
}

struct Program::Frame {
  const Batch& batch;
  char* arenas[kBatchDims];
  int64_t rows[kBatchDims];
  Tensor runtimes[kRuntimes];
  void* input;
};

Program::Program(const Backend& backend, Graph graph)
    : backend_(backend), graph_(std::move(graph)), plan_(plan_activations(graph_)), weights_(graph_.values.size()) {
  const size_t count = graph_.values.size();
  memory_offset_.assign(count, 0);
  packable_.assign(count, true);
  std::vector<bool> multiplied(count, false);
  int64_t lookback = 0;
  for (const Node& node : graph_.nodes) {
    has_whole_form_ |= node.when == When::whole;
    looks_ahead_ |= node.demands.whole_sequences && node.when != When::whole;
    max_tokens_ = std::min(max_tokens_, node.demands.longest);
    lookback = std::max(lookback, node.demands.lookback);
    bool selects = false;
    with_op(node.op, [&]<class Op>() {
      Op op;
      std::memcpy(static_cast<void*>(&op), node.prototype.data(), sizeof(Op));
      note_uses(node, OpFields(op), multiplied);
      selects = std::is_same_v<Op, SelectRows>;
    });
    if (selects) hidden_ = node.values.back();
  }
  cleared_.resize(graph_.nodes.size());
  std::vector<bool> touched(count, false);
  for (size_t n = 0; n < graph_.nodes.size(); ++n)
    for (int32_t id : graph_.nodes[n].values) {
      const int32_t root = id < 0 ? -1 : graph_.root(id);
      if (root < 0 || touched[root]) continue;
      touched[root] = true;
      if (graph_.values[root].cleared) cleared_[n].push_back(root);
    }
  window_ = lookback == Demands::kAllTokens ? 0 : lookback;
  for (size_t id = 0; id < count; ++id) {
    const Value& v = graph_.values[id];
    packable_[id] = packable_[id] && multiplied[id];
    if (v.kind == ValueKind::state) {
      memory_offset_[id] = state_bytes_;
      state_bytes_ += aligned(v.size() * 4);
    } else if (v.kind == ValueKind::cache) {
      memory_offset_[id] = page_bytes_;
      page_bytes_ += aligned(dtype_bytes(v.dtype, v.size() * kPageTokens));
    } else if (v.kind == ValueKind::input) {
      input_ = int32_t(id);
    }
  }
}

void Program::initial_state(void* state) const {
  for (size_t id = 0; id < graph_.values.size(); ++id) {
    const Value& v = graph_.values[id];
    if (v.kind != ValueKind::state || v.fill.empty()) continue;
    std::vector<float> filled(v.size());
    for (int64_t i = 0; i < v.size(); ++i) filled[i] = v.fill[i / v.row_size()];
    backend_.upload(static_cast<char*>(state) + memory_offset_[id], filled.data(), v.size() * 4);
  }
}

Tensor Program::bind(int32_t id, const Frame& f) const {
  const Value& v = graph_.values[id];
  Tensor t;
  t.dtype = v.dtype;
  switch (v.kind) {
    case ValueKind::weight:
    case ValueKind::fixed:
      return weights_[id];
    case ValueKind::state:
      t.rank = v.rank + 1;
      t.shape[0] = f.batch.state_pool;
      std::copy(v.dims, v.dims + v.rank, t.shape + 1);
      t.row_stride = state_bytes_ / 4;
      t.data = static_cast<char*>(f.batch.state_base) + memory_offset_[id];
      return t;
    case ValueKind::cache:
      t.rank = 4;
      t.shape[0] = f.batch.page_pool, t.shape[1] = v.dims[0], t.shape[2] = kPageTokens, t.shape[3] = v.dims[1];
      t.row_stride = page_bytes_ / dtype_bytes(v.dtype, 1);
      t.data = static_cast<char*>(f.batch.page_base) + memory_offset_[id];
      return t;
    default:
      break;
  }
  const int dim = batch_dim(v.dims[0]);
  t.rank = v.rank;
  std::copy(v.dims, v.dims + v.rank, t.shape);
  t.shape[0] = f.rows[dim];
  int64_t column = 0;
  int32_t root = id;
  for (; graph_.values[root].kind == ValueKind::view; root = graph_.values[root].parent)
    column += graph_.values[root].offset;
  t.row_stride = graph_.values[root].row_size();
  char* base = graph_.values[root].kind == ValueKind::input ? static_cast<char*>(f.input)
                                                            : f.arenas[dim] + plan_.offset[root] * f.rows[dim];
  t.data = base + column * 4;
  return t;
}

// Which of its values a node multiplies by, which it only reads, and what a vocabulary is as high as.
void Program::note_uses(const Node& node, const OpFields& fields, std::vector<bool>& multiplied) {
  // The rows of other tables than those of ids, of a loss's classes, say nothing of ids.
  const bool by_id = std::find(node.runtimes.begin(), node.runtimes.end(), Runtime::ids) != node.runtimes.end();
  reads_ids_ |= by_id;
  for (size_t i = 0; i < fields.tensors.size(); ++i) {
    const int32_t id = node.values[i];
    if (id < 0) continue;
    const std::string shape = fields.tensors[i].shape, dtypes = fields.tensors[i].dtypes;
    if (by_id && shape.starts_with("vocab")) {
      const int64_t rows = graph_.values[id].dims[0];
      vocab_ = vocab_ ? std::min(vocab_, rows) : rows;
    }
    if (dtypes == kWeights)
      multiplied[id] = true;
    else
      packable_[id] = false;
  }
}

// `op`: memory for the struct, kept from node to node.
void Program::run_node(const Node& node, const Frame& f, std::vector<char>& op, Context& cx) const {
  op.assign(node.prototype.begin(), node.prototype.end());
  if (f.batch.adds && node.accumulate >= 0) *reinterpret_cast<bool*>(op.data() + node.accumulate) = true;
  for (size_t i = 0; i < node.values.size(); ++i) {
    Tensor& t = *reinterpret_cast<Tensor*>(op.data() + node.offsets[i]);
    if (node.values[i] >= 0)
      t = bind(node.values[i], f);
    else if (node.runtimes[i] != Runtime::none)
      t = f.runtimes[int(node.runtimes[i])];
  }
  backend_.run[node.op](op.data(), cx);
}

void Program::clear(int32_t value, const Frame& f) const {
  const Tensor t = bind(value, f);
  constexpr int64_t kPiece = 256 << 10;
  const int64_t bytes = t.size() * 4, pieces = (bytes + kPiece - 1) / kPiece;
  ThreadPool::global().parallel_for(
      pieces, [&](int64_t i, int) { backend_.zero(t.as<char>() + i * kPiece, std::min(kPiece, bytes - i * kPiece)); });
}

// A device copies whole slots: many small copies would cost it more than their bytes.
void Program::save(const Node& node, const Batch& batch, Undo& undo) const {
  if (undo.entries.empty()) return;
  for (int32_t id : node.values) {
    if (id < 0 || graph_.values[id].kind != ValueKind::state || undo.saved[id]) continue;
    const bool host = backend_.host_memory;
    const int64_t offset = host ? memory_offset_[id] : 0, bytes = host ? graph_.values[id].size() * 4 : state_bytes_;
    const auto copy = [&](int64_t i, int) {
      const auto& [slot, kept] = undo.entries[i];
      const char* from = static_cast<const char*>(batch.state_base) + slot * state_bytes_;
      backend_.copy(kept + offset, from + offset, bytes);
    };
    const int64_t count = int64_t(undo.entries.size());
    constexpr int64_t kWorthThreads = 64 << 10;
    if (host && count * bytes > kWorthThreads)
      ThreadPool::global().parallel_for(count, copy);
    else
      for (int64_t i = 0; i < count; ++i) copy(i, 0);
    if (host)
      undo.saved[id] = true;
    else
      undo.saved.assign(graph_.values.size(), true);
  }
}

void Program::restore(const Undo& undo, void* state_base) const {
  for (const auto& [slot, kept] : undo.entries)
    for (size_t id = 0; id < undo.saved.size(); ++id) {
      const Value& v = graph_.values[id];
      if (v.kind != ValueKind::state || !undo.saved[id]) continue;
      backend_.copy(static_cast<char*>(state_base) + slot * state_bytes_ + memory_offset_[id],
                    kept + memory_offset_[id], v.size() * 4);
    }
}

void Program::run(const Batch& batch, Workspace& w, const Cancelled& cancelled, Undo& undo,
                  const std::atomic<bool>* stop) const {
  Frame f{batch, {}, {batch.tokens, batch.outputs, batch.sequences}, {}, nullptr};
  for (int d = 0; d < kBatchDims; ++d)
    f.arenas[d] = static_cast<char*>(w.arenas[d].reserve(plan_.row_bytes[d] * f.rows[d]));

  const std::pair<Runtime, const std::vector<int32_t>*> integers[] = {{Runtime::cu_seqlens, &batch.cu_seqlens},
                                                                      {Runtime::slots, &batch.slots},
                                                                      {Runtime::positions, &batch.positions},
                                                                      {Runtime::ids, &batch.ids},
                                                                      {Runtime::rows, &batch.rows},
                                                                      {Runtime::page_table, &batch.page_table},
                                                                      {Runtime::key_lengths, &batch.key_lengths},
                                                                      {Runtime::targets, &batch.targets}};
  // A device gets them all in one copy.
  int64_t bytes = 0;
  for (const auto& [which, list] : integers) bytes += aligned(int64_t(list->size()) * 4);
  char* device = nullptr;
  if (!backend_.host_memory) {
    char* staged = static_cast<char*>(w.staged.reserve(bytes));
    device = static_cast<char*>(w.integers.reserve(bytes));
    for (const auto& [which, list] : integers) {
      std::copy(list->begin(), list->end(), reinterpret_cast<int32_t*>(staged));
      staged += aligned(int64_t(list->size()) * 4);
    }
    backend_.upload(device, w.staged.data(), bytes);
  }
  for (const auto& [which, list] : integers) {
    Tensor& t = f.runtimes[int(which)];
    t.dtype = DType::i32;
    t.rank = 1;
    t.shape[0] = int64_t(list->size());
    t.row_stride = 1;
    if (which == Runtime::page_table) {
      t.rank = 2;
      t.shape[0] = batch.sequences, t.shape[1] = t.row_stride = batch.max_pages;
    }
    t.data = device ? static_cast<void*>(device) : const_cast<int32_t*>(list->data());
    // No rows asked for: present and empty. Nothing else that is empty is there.
    if (list->empty()) t.data = which != Runtime::rows ? nullptr : device ? device : static_cast<void*>(&f);
    if (device) device += aligned(int64_t(list->size()) * 4);
  }
  if (input_ >= 0) {
    f.input = const_cast<float*>(batch.input);
    if (!backend_.host_memory) {
      const int64_t n = batch.tokens * input_features() * 4;
      f.input = w.input.reserve(n);
      backend_.upload(f.input, batch.input, n);
    }
  }

  Context cx{ThreadPool::global(), w.scratch};
  cx.exact = exact_;
  cx.stop = stop;
  std::vector<char> op;
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    const Node& node = graph_.nodes[n];
    if (node.when == (batch.whole ? When::stream : When::whole)) continue;
    if (cancelled && cancelled()) throw Error(Code::kAborted, "aborted");
    save(node, batch, undo);
    for (int32_t id : cleared_[n]) clear(id, f);
    run_node(node, f, op, cx);
    if (batch.hidden && node.values.back() == hidden_) break;
  }
}

int64_t Program::output_rows(const Batch& batch) const {
  const int64_t rows[kBatchDims] = {batch.tokens, batch.outputs, batch.sequences};
  return rows[batch_dim(output_dim())];
}

const float* Program::output(const Batch& batch, const Workspace& w) const {
  const int32_t output = batch.hidden ? hidden_ : graph_.output;
  const char* arena = static_cast<const char*>(w.arenas[batch_dim(output_dim())].data());
  return reinterpret_cast<const float*>(arena + plan_.offset[output] * output_rows(batch));
}

void Program::read_output(const Batch& batch, const Workspace& w, float* to) const {
  if (const char* failure = backend_.finish()) throw Error(Code::kDevice, failure);
  const int64_t values = output_rows(batch) * graph_.values[batch.hidden ? hidden_ : graph_.output].row_size();
  if (values) backend_.download(to, output(batch, w), values * 4);
}

}  // namespace statespace
