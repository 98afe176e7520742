#pragma once
// A session's state in the form that StateImport takes, piece by piece: a whole one beside it would be memory as large
// that is touched for the first time.
#include <vector>

#include "program/session.h"

namespace statespace {

class StateExport {
 public:
  // Of a session that stays as it is meanwhile. Throws ERR_STATE where its state was lost.
  explicit StateExport(const Session& session);
  // The next bytes, of Session::exported_bytes() in all.
  void read(uint8_t* to, int64_t count, const std::atomic<bool>* stop = nullptr);

 private:
  struct Run {
    const char* from;
    int64_t bytes;
  };
  void open_page();

  const Session& session_;
  int64_t page_;
  std::vector<Run> runs_;  // that are read next, from next_ on: the slot, then those of a page at a time
  size_t next_ = 0;
};

}  // namespace statespace
