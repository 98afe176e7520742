#pragma once
// A graph made ready to run: kernels looked up, activations placed, states and caches given offsets. Immutable once its
// weights are set; several threads may run it at once, each with its own Workspace.
#include <chrono>
#include <functional>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "core/op_fields.h"
#include "program/graph.h"
#include "program/plan.h"

namespace statespace {

constexpr int64_t kPageTokens = 64;  // tokens of one page of a KV cache

// Memory of a backend, owned.
class BackendBuffer {
 public:
  explicit BackendBuffer(const Backend& backend) : backend_(&backend) {}
  BackendBuffer(BackendBuffer&& o) noexcept : backend_(o.backend_) {
    std::swap(data_, o.data_), std::swap(bytes_, o.bytes_);
  }
  BackendBuffer& operator=(BackendBuffer&& o) noexcept {
    std::swap(backend_, o.backend_), std::swap(data_, o.data_), std::swap(bytes_, o.bytes_);
    return *this;
  }
  ~BackendBuffer() {
    if (data_) backend_->free(data_);
  }
  // Contents are lost when it grows. Throws ERR_OUT_OF_MEMORY.
  void* reserve(int64_t bytes);
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  const Backend* backend_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

// What one run needs besides weights and state; reused from run to run.
struct Workspace {
  explicit Workspace(const Backend& b)
      : arenas{BackendBuffer(b), BackendBuffer(b), BackendBuffer(b)}, integers(b), input(b), kept(b) {}
  BackendBuffer arenas[kBatchDims];
  BackendBuffer integers;  // the runtime tensors of a device backend
  Buffer staged;           // and the same on their way there
  BackendBuffer input;
  Scratch scratch;
  std::vector<float> rows;  // of the output, before they are handed to their requests
  BackendBuffer kept;       // what an abort puts back
  int64_t most_tokens = 0;  // of a run that has succeeded: smaller ones find their memory ready
  // When one last needed a large part of it (Model::leave).
  std::chrono::steady_clock::time_point filled{};
  int64_t bytes() const;
};

// One packed forward: the runtime tensors, in host memory.
struct Batch {
  int64_t tokens = 0, outputs = 0, sequences = 0, max_pages = 0;
  bool hidden = false;  // ends before the head: the rows that it would read are the output
  bool whole = false;   // every sequence from its first token to its last, none of them continued
  bool adds = false;    // gradients that can be (Value::added) are added to what is there
  std::vector<int32_t> cu_seqlens{0}, slots, positions, ids, rows, page_table, key_lengths;
  std::vector<int32_t> targets;  // (tokens), of a graph with a loss
  const float* input = nullptr;  // (tokens, features) of a graph with an input
  void* state_base = nullptr;
  int64_t state_pool = 0;
  void* page_base = nullptr;
  int64_t page_pool = 0;
};

// States as they were before a run, copied when the run first writes them: value by value just before the op that does.
struct Undo {
  struct Entry {
    int32_t slot;
    char* kept;  // (state_bytes)
  };
  std::vector<Entry> entries;
  std::vector<bool> saved;  // by value
};

class Program {
 public:
  Program(const Backend& backend, Graph graph);

  const Backend& backend() const { return backend_; }
  const Graph& graph() const { return graph_; }
  const Plan& plan() const { return plan_; }
  std::vector<Tensor>& weights() { return weights_; }  // by value id; fixed values as well
  // Products round no activations, whatever the weights' type. Set before the first run.
  void compute_exactly() { exact_ = true; }
  // Whether every use of a weight reads packed matrices.
  bool packable(int32_t value) const { return packable_[value]; }

  int64_t state_bytes() const { return state_bytes_; }  // one session
  int64_t page_bytes() const { return page_bytes_; }    // one page of all its caches
  int64_t window() const { return window_; }            // keys that any cached attention looks back; 0: all
  bool has_cache() const { return page_bytes_ > 0; }
  int64_t input_features() const { return input_ < 0 ? 0 : graph_.values[input_].row_size(); }
  int64_t output_features() const { return graph_.values[graph_.output].row_size(); }
  // Of the rows that the head reads; 0 where there is no head.
  int64_t hidden_features() const { return hidden_ < 0 ? 0 : graph_.values[hidden_].row_size(); }
  int64_t output_dim() const { return graph_.values[graph_.output].dims[0]; }
  bool reads_ids() const { return reads_ids_; }
  // Whether an op looks at tokens that come later, or at all of them at once: a sequence must then be fed in one piece.
  bool looks_ahead() const { return looks_ahead_; }
  // Whether whole sequences are computed in another way than streams: then they must be fed in one piece.
  bool has_whole_form() const { return has_whole_form_; }
  // Tokens that a sequence can have: as many as the shortest long convolution has taps.
  int64_t max_tokens() const { return max_tokens_; }
  int64_t vocab() const { return vocab_; }
  // Bytes of activations per token, for choosing a chunk length.
  int64_t token_bytes() const { return plan_.row_bytes[0]; }

  // A new session's state.
  void initial_state(void* state) const;
  // Asked between ops; true ends the run with ERR_ABORTED. May be empty.
  using Cancelled = std::function<bool()>;
  // Enqueues all ops. The result lies in the workspace: read_output().
  void run(const Batch& batch, Workspace& w, const Cancelled& cancelled, Undo& undo,
           const std::atomic<bool>* stop = nullptr) const;
  // Puts back what run() has saved.
  void restore(const Undo& undo, void* state_base) const;
  // Host copy of the output rows; waits. Throws ERR_DEVICE.
  void read_output(const Batch& batch, const Workspace& w, float* to) const;
  // The output rows where they lie, valid until the next run; of a backend in host memory.
  const float* output(const Batch& batch, const Workspace& w) const;
  int64_t output_rows(const Batch& batch) const;

 private:
  struct Frame;
  void run_node(const Node& node, const Frame& f, std::vector<char>& op, Context& cx) const;
  void note_uses(const Node& node, const OpFields& fields, std::vector<bool>& multiplied);
  Tensor bind(int32_t id, const Frame& f) const;
  void save(const Node& node, const Batch& batch, Undo& undo) const;
  void clear(int32_t value, const Frame& f) const;

  const Backend& backend_;
  const Graph graph_;
  const Plan plan_;
  std::vector<Tensor> weights_;
  std::vector<bool> packable_;
  std::vector<std::vector<int32_t>> cleared_;  // by node: values that are zeros before it
  std::vector<int64_t> memory_offset_;         // states: bytes in the slot; caches: bytes in the page
  int64_t state_bytes_ = 0, page_bytes_ = 0, window_ = 0, vocab_ = 0, max_tokens_ = INT32_MAX;
  int32_t input_ = -1, hidden_ = -1;
  bool exact_ = false;
  bool reads_ids_ = false, looks_ahead_ = false, has_whole_form_ = false;
};

}  // namespace statespace
