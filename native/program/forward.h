#pragma once
// One forward of several sessions, chunk by chunk, so that others get their turn between: all or nothing. Until it has
// succeeded nothing is given away that a session would need to be what it was before:
//
//   state       a slot that forks share is copied before it is written, and the shared one kept; of an unshared slot,
//               each op's part is copied just before the op runs (it reads that part then anyway)
//   KV cache    new tokens lie behind the old ones; pages behind the window go back at the end
//   the rest    tokens, last row, position: written at the end
#include <memory>
#include <vector>

#include "core/recycled.h"
#include "program/model.h"

namespace statespace {

class Forward {
 public:
  // Where rows go: each request's to a block of its own, or all to one, or to memory of the caller's.
  struct Output {
    bool apart = false;
    float* data = nullptr;
    int64_t values = 0;
  };
  // Checks the requests and takes their sessions. Throws ERR_STATE, ERR_ARGUMENT, ERR_DISPOSED; ERR_SHAPE where the
  // caller's memory has another number of values.
  Forward(std::shared_ptr<Model> model, std::vector<Request> requests, Output output);
  // An unfinished one leaves every session as it was.
  ~Forward();
  Forward(const Forward&) = delete;

  // Runs a chunk; whether there is more to run. One that throws is over.
  bool advance(const Program::Cancelled& cancelled, const std::atomic<bool>* stop = nullptr,
               const std::atomic<bool>* ended = nullptr);
  int64_t done() const { return done_; }  // tokens
  int64_t left() const { return total_ - done_; }
  // After the last chunk: the rows that were asked for, a block for each request or one; none of the caller's memory.
  std::vector<FloatBlock> take_rows() { return std::move(rows_); }
  // And what each request's sampler chose; token -1 where there is none.
  std::vector<Chosen>& chosen() { return chosen_; }

 private:
  struct Piece;
  void check(const Request& r) const;
  void run_chunk();
  void own_states(Undo& undo);
  int64_t longest_chunk() const;
  Batch batch_of_chunk(std::vector<float>& gathered);
  float* place_of_all();
  void hand_out(const float* from);
  void sample();
  void commit();
  void roll_back();
  void leave();

  const std::shared_ptr<Model> model_;
  const Program& program_;
  const std::vector<Request> requests_;
  std::vector<Piece> pieces_;
  std::unique_ptr<Workspace> workspace_;
  std::vector<FloatBlock> rows_;
  std::vector<Chosen> chosen_;
  Undo undo_, kept_;  // of the chunk under way, and of those before it
  int64_t total_ = 0, done_ = 0;
  bool whole_ = false, hidden_ = false, undoable_ = false, over_ = false;
  bool interruptible_ = false;  // an abort is looked for between ops
  int64_t width_ = 0;           // values of a row
  const Program::Cancelled* cancelled_ = nullptr;
  const std::atomic<bool>*stop_ = nullptr, *ended_ = nullptr;
};

}  // namespace statespace
