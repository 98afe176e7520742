#pragma once
// A program with its weights and the memory of its sessions; forwards of any mix of sessions.
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "program/pool.h"
#include "program/program.h"
#include "program/sampler.h"
#include "program/session.h"
#include "program/weight_memory.h"

namespace statespace {

// whole: all rows of a sequence that is fed from its first token to its last; its session cannot go on from there.
// hidden: all rows of what the head reads, in place of what it gives; for all requests of a forward or for none.
enum class Rows : uint8_t { none, last, all, whole, hidden };

struct Request {
  std::shared_ptr<Session> session;
  const int32_t* ids = nullptr;  // (length), or
  const float* input = nullptr;  // (length, features); kept alive by the caller
  int64_t length = 0;
  Rows rows = Rows::last;
  // Chooses the token that follows; with no tokens to feed, of the session's last row. The mask has a bit for each id.
  std::shared_ptr<Sampler> sampler;
  const uint32_t* mask = nullptr;  // kept alive by the caller
};

class Model : public std::enable_shared_from_this<Model> {
 public:
  Model(const Backend& backend, Graph graph);

  Program program;

  // Feeds every request's tokens and advances its session; returns the output rows, requests in order. The same as a
  // Forward (program/forward.h) run to its end.
  FloatBlock forward(const std::vector<Request>& requests, const Program::Cancelled& cancelled = {});

  // Frees the weights, at once or when the forwards that run now have ended; later ones are ERR_DISPOSED. Sessions keep
  // what they hold.
  void dispose();

  // Weights.
  struct Source {
    const void* data;  // rows, contiguous
    DType dtype;       // f32, f16 or bf16
    int64_t count;
  };
  // Converts the sources (laid end to end they are the weight) to `dtype` and lays them out for the backend.
  // `stop` ends it between pieces with ERR_ABORTED; the weight is then as before.
  void set_weight(int32_t value, const std::vector<Source>& sources, const std::atomic<bool>* stop = nullptr);
  // The same of values that are read, and converted, where they are laid out: rows [first, first + count) at a time, by
  // several threads, so that no copy of the weight lies beside it. false, and nothing is done, where that cannot be.
  using ReadRows = std::function<void(int64_t first, int64_t count, void* to)>;
  bool stream_weight(int32_t value, DType dtype, int64_t count, const ReadRows& read,
                     const std::atomic<bool>* stop = nullptr);
  // The values of a weight as it is held, as f32. `stop` ends it between pieces with ERR_ABORTED.
  void read_weight(int32_t value, float* to, const std::atomic<bool>* stop = nullptr);
  // Uniform in [-bound, bound), a function of seed, value and index alone.
  void set_random(int32_t value, float bound, uint64_t seed, const std::atomic<bool>* stop = nullptr);
  // Models of one process that hold the same weights hold them once, whichever thread made them. adopt(): takes those
  // that another one has published under this key, which says all that they depend on; false where there is none.
  // publish(): lets others have these, or takes those that another one was quicker with.
  bool adopt(const std::string& key);
  void publish(const std::string& key);
  // Touches the memory of as many pages of KV caches before sessions need them; see Pool::prepare().
  void prepare_pages(int64_t pages, const std::atomic<bool>* stop) { pages_.prepare(pages, stop); }
  int64_t weight_bytes() const { return held_->bytes; }
  // Bytes that forwards have left for the next.
  int64_t workspace_bytes();
  int64_t chunk_tokens() const { return chunk_tokens_; }

 private:
  friend class Session;
  friend class StateExport;
  friend class StateImport;
  friend class Forward;
  // Around every forward; enter() throws ERR_DISPOSED.
  std::unique_ptr<Workspace> enter();
  void leave(std::unique_ptr<Workspace> workspace, int64_t tokens);
  void trim();
  void trim_in(std::chrono::seconds delay);
  void free_weights();
  Tensor rows_tensor(int32_t value) const;
  Tensor place(int32_t value, const Tensor& host);
  void store(int32_t value, const Tensor& host, const std::atomic<bool>* stop);

  Pool states_, pages_;
  int64_t chunk_tokens_ = 512;
  struct Held {
    explicit Held(WeightMemory m) : fresh(std::move(m)) {}
    WeightMemory fresh;
    std::vector<std::shared_ptr<void>> memory;  // by value id
    std::vector<Tensor> tensors;                // by value id, once they are published
    int64_t bytes = 0;
  };
  void take(std::shared_ptr<Held> held);
  void own();  // before weights change: what was published stays as it is
  std::shared_ptr<Held> held_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;
  int64_t forwards_ = 0;   // in progress
  bool trimming_ = false;  // trim() is about to be called
  bool disposed_ = false;
};

}  // namespace statespace
