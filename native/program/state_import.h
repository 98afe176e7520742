#pragma once
// An exported state taken over piece by piece as it arrives, each byte straight into the slot or page where it stays: a
// whole one beside them would be memory that is touched for the first time twice.
#include <memory>
#include <vector>

#include "program/model.h"

namespace statespace {

class StateImport {
 public:
  // Throws ERR_STATE where no state of this model at `position` has `size` bytes.
  StateImport(std::shared_ptr<Model> model, int64_t size, int64_t position);

  // The next bytes; throws ERR_STATE for more than are left.
  void take(const uint8_t* bytes, int64_t count, const std::atomic<bool>* stop = nullptr);
  // What has come becomes a session's of the model; ERR_STATE where some is missing.
  void give_to(Session& session);

 private:
  struct Run {
    char* to;
    int64_t bytes;
  };
  void open_page();

  Session fresh_;  // beside the one that it is for: what fails in the middle changes nothing there
  int64_t left_, page_;
  std::vector<Run> runs_;  // that are filled next, from next_ on: the slot, then those of a page at a time
  size_t next_ = 0;
};

}  // namespace statespace
