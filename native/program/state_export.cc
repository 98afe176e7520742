#include "program/state_export.h"

#include <algorithm>

#include "core/error.h"
#include "program/exported.h"
#include "program/model.h"

namespace statespace {
namespace {

constexpr int64_t kPiece = 4 << 20;  // bytes between two looks at `stop`

}  // namespace

StateExport::StateExport(const Session& session) : session_(session), page_(session.first_visible() / kPageTokens) {
  if (session.broken_) throw Error(Code::kState, "session: its state was lost in a failed forward");
  const int64_t bytes = session.program().state_bytes();
  if (bytes) runs_.push_back({static_cast<const char*>(session.model->states_.at(session.slot_)), bytes});
}

void StateExport::open_page() {
  runs_.clear();
  next_ = 0;
  const char* const page = static_cast<const char*>(session_.model->pages_.at(session_.pages_.at(page_)));
  each_run(session_.program(), page_, session_.first_visible(), session_.position_, [&](int64_t offset, int64_t bytes) {
    runs_.push_back({page + offset, bytes});
  });
  ++page_;
}

void StateExport::read(uint8_t* to, int64_t count, const std::atomic<bool>* stop) {
  const Backend& backend = session_.program().backend();
  const auto device = lock_device(backend);
  while (count > 0) {
    throw_if_stopped(stop);
    if (next_ == runs_.size()) {
      open_page();
      continue;
    }
    Run& run = runs_[next_];
    const int64_t n = std::min({count, run.bytes, kPiece});
    if (n > 0) backend.download(to, run.from, n);
    run = {run.from + n, run.bytes - n};
    if (run.bytes == 0) ++next_;
    to += n, count -= n;
  }
}

}  // namespace statespace
