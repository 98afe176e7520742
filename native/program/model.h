#pragma once
// A program with its weights and the memory of its sessions; forwards of any mix of sessions.
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/recycled.h"
#include "program/pool.h"
#include "program/program.h"

namespace statespace {

class Model;

// What one sequence remembers: a slot of the state pool and pages of the KV cache. A value; fork copies it.
class Session {
 public:
  explicit Session(std::shared_ptr<Model> model);
  ~Session();
  Session(const Session&) = delete;

  std::shared_ptr<Session> fork() const;
  int64_t position() const { return position_; }
  int64_t bytes() const;

  // The state and the visible keys and values, in a form that any backend restores: import_state() throws ERR_STATE
  // when the size does not fit.
  std::vector<uint8_t> export_state() const;
  void import_state(const uint8_t* bytes, int64_t size, int64_t position);
  static int64_t exported_bytes(const Program& p, int64_t position);

  const std::shared_ptr<Model> model;

 private:
  friend class Model;
  // Makes pages for tokens up to `end`, none of them shared from the first new one on.
  void extend(int64_t end);
  // Returns the pages from token `end` on.
  void truncate(int64_t end);
  // Returns the pages wholly within the tokens [begin, end): behind the window.
  void forget(int64_t begin, int64_t end);
  int64_t first_visible() const;
  static int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

  int64_t position_ = 0;
  int32_t slot_ = -1;
  std::vector<int32_t> pages_;  // -1: behind the window
  std::atomic<bool> busy_{false};
  bool broken_ = false;
};

// whole: all rows of a sequence that is fed from its first token to its last; its session cannot go on from there.
enum class Rows : uint8_t { none, last, all, whole };

struct Request {
  std::shared_ptr<Session> session;
  const int32_t* ids = nullptr;  // (length), or
  const float* input = nullptr;  // (length, features)
  int64_t length = 0;
  Rows rows = Rows::last;
};

class Model : public std::enable_shared_from_this<Model> {
 public:
  Model(const Backend& backend, Graph graph);

  Program program;

  struct Control {
    Program::Cancelled cancelled;
    std::function<void(int64_t tokens_done)> progress;
  };
  // Feeds every request's tokens and advances its session; returns the output rows, requests in order. A request longer
  // than a chunk runs in pieces. When it is cancelled or fails, every session is as it was before.
  FloatBlock forward(const std::vector<Request>& requests, const Control& control);

  // Weights.
  struct Source {
    const void* data;  // rows, contiguous
    DType dtype;       // f32, f16 or bf16
    int64_t count;
  };
  // Converts the sources (laid end to end they are the weight) to `dtype` and lays them out for the backend.
  void set_weight(int32_t value, const std::vector<Source>& sources);
  // Uniform in [-bound, bound), a function of seed, value and index alone.
  void set_random(int32_t value, float bound, uint64_t seed);
  int64_t weight_bytes() const { return weight_bytes_; }
  int64_t chunk_tokens() const { return chunk_tokens_; }

 private:
  friend class Session;
  struct Piece;
  void run_chunk(std::vector<Piece>& pieces, Workspace& w, bool whole, const Program::Cancelled& cancelled);
  std::unique_ptr<Workspace> take_workspace();
  Tensor rows_tensor(int32_t value) const;
  void store(int32_t value, const Tensor& host);

  Pool states_, pages_;
  int64_t chunk_tokens_ = 512;
  int64_t weight_bytes_ = 0;
  std::vector<BackendBuffer> memory_;
  std::mutex workspace_mutex_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;
};

}  // namespace statespace
