#pragma once
// What one sequence remembers: a slot of the state pool and pages of the KV cache, the tokens so far and the last row
// of logits. A value: fork() shares all of it, and whoever writes first takes a copy of what it writes.
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/recycled.h"
#include "program/history.h"
#include "program/program.h"

namespace statespace {

class Model;

class Session {
 public:
  explicit Session(std::shared_ptr<Model> model);
  ~Session();
  Session(const Session&) = delete;

  // Costs the same whatever the session holds.
  std::shared_ptr<Session> fork() const;
  // Tokens so far, the pending one included.
  int64_t position() const { return position_ + (pending_ >= 0); }
  int64_t bytes() const;
  // Of these, the ones that no fork holds as well.
  int64_t own_bytes() const;
  bool in_use() const { return busy_; }

  // Tokens so far, where the network reads tokens.
  const History& history() const { return history_; }
  void set_history(const std::vector<int32_t>& ids);
  // A token that belongs to the sequence and that the next forward reads first: chosen, handed out, not yet fed.
  int32_t pending() const { return pending_; }
  void set_pending(int32_t token);
  // The logits after the last token that was fed; nullptr where they were not asked for.
  const FloatBlock* last_row() const { return last_row_.get(); }
  void set_last_row(const float* values, int64_t count);

  // The state and the visible keys and values, in a form that any backend restores: import_state() throws ERR_STATE
  // when the size does not fit. `to` has room for exported_bytes().
  int64_t exported_bytes() const { return exported_bytes(program(), position_); }
  void export_state(uint8_t* to, const std::atomic<bool>* stop = nullptr) const;
  std::vector<uint8_t> export_state() const;
  void import_state(const uint8_t* bytes, int64_t size, int64_t position, const std::atomic<bool>* stop = nullptr);
  static int64_t exported_bytes(const Program& p, int64_t position);

  const std::shared_ptr<Model> model;

 private:
  friend class Forward;
  friend class StateExport;
  friend class StateImport;
  struct Empty {};
  Session(std::shared_ptr<Model> model, Empty);
  const Program& program() const;

  // Makes pages for tokens up to `end`, none of them shared from the first new one on.
  void extend(int64_t end);
  // Returns the pages from token `end` on.
  void truncate(int64_t end);
  // Returns the pages wholly within the tokens [begin, end): behind the window.
  void forget(int64_t begin, int64_t end);
  int64_t first_visible() const;
  static int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

  int64_t position_ = 0;  // tokens that were fed
  int32_t slot_ = -1;
  int32_t pending_ = -1;
  std::vector<int32_t> pages_;  // -1: behind the window
  History history_;
  std::shared_ptr<FloatBlock> last_row_;  // never changed while shared
  std::atomic<bool> busy_{false};
  bool broken_ = false;
};

}  // namespace statespace
