#pragma once
// A request of a forward in progress.
#include <memory>
#include <vector>

#include "program/forward.h"

namespace statespace {

struct Forward::Piece {
  const Request* request;
  Session* session;
  std::vector<int32_t> joined;       // a pending token and the request's own
  const int32_t* ids = nullptr;      // (total), or
  const float* input = nullptr;      // (total, features)
  int64_t total = 0;                 // tokens to feed
  int64_t skipped = 0;               // of these, pending before: no row of theirs is asked for
  int64_t done = 0;                  // tokens of earlier chunks
  int64_t length = 0;                // tokens of this chunk
  int64_t start = 0;                 // the session's position before the forward
  float* out = nullptr;              // its rows of the result
  int64_t wanted = 0, rows = 0;      // how many, and how many are filled
  int32_t shared = -1;               // the slot that it had, where others hold that too
  char* kept = nullptr;              // copies of its state
  bool touched = false;              // a chunk of it was begun
  std::shared_ptr<FloatBlock> last;  // its last row

  // Rows that the network computes: a sampler wants the last.
  Rows computed() const { return request->rows == Rows::none && request->sampler ? Rows::last : request->rows; }
};

}  // namespace statespace
