#include "program/state_import.h"

#include <algorithm>

#include "core/error.h"
#include "core/thread_pool.h"
#include "program/exported.h"

namespace statespace {
namespace {

// Copied by all threads where it is more: what they mostly do is to touch new pages.
constexpr int64_t kWorthThreads = 128 << 10;
constexpr int64_t kPiece = 1 << 20;  // that one thread copies between two looks at `stop`

}  // namespace

StateImport::StateImport(std::shared_ptr<Model> model, int64_t size, int64_t position)
    : fresh_(std::move(model), Session::Empty()), left_(size) {
  const Program& p = fresh_.program();
  const int64_t most = p.max_tokens();
  if (position < 0 || position > most || size != Session::exported_bytes(p, position))
    throw Error(Code::kState, "snapshot: expected " +
                                  (position < 0 || position > most
                                       ? "a position from 0 to " + std::to_string(most)
                                       : std::to_string(Session::exported_bytes(p, position)) + " bytes of state") +
                                  ", received " + std::to_string(size) + " at position " + std::to_string(position));
  const auto device = lock_device(p.backend());
  fresh_.position_ = position;
  fresh_.slot_ = fresh_.model->states_.take(Fresh::anything);
  if (p.state_bytes()) runs_.push_back({static_cast<char*>(fresh_.model->states_.at(fresh_.slot_)), p.state_bytes()});
  if (p.has_cache()) fresh_.pages_.assign(Session::pages_for(position), -1);
  page_ = fresh_.first_visible() / kPageTokens;
  // Behind a window of one token nothing of the last page is visible, and no bytes of it come: the next token goes
  // there all the same.
  if (fresh_.first_visible() == position && page_ < int64_t(fresh_.pages_.size()))
    fresh_.pages_[page_] = fresh_.model->pages_.take();
}

void StateImport::open_page() {
  Pool& pages = fresh_.model->pages_;
  const int32_t taken = fresh_.pages_[page_] = pages.take();
  runs_.clear();
  next_ = 0;
  each_run(fresh_.program(), page_, fresh_.first_visible(), fresh_.position_, [&](int64_t offset, int64_t bytes) {
    runs_.push_back({static_cast<char*>(pages.at(taken)) + offset, bytes});
  });
  ++page_;
}

void StateImport::take(const uint8_t* bytes, int64_t count, const std::atomic<bool>* stop) {
  if (count > left_) throw Error(Code::kState, "snapshot: it holds more state than it says");
  const Backend& backend = fresh_.program().backend();
  const auto device = lock_device(backend);
  struct Copy {
    char* to;
    const uint8_t* from;
    int64_t bytes;
  };
  std::vector<Copy> copies;
  for (int64_t rest = count; rest > 0;) {
    if (next_ == runs_.size()) {
      throw_if_stopped(stop);
      open_page();
    }
    Run& run = runs_[next_];
    const int64_t n = std::min({rest, run.bytes, kPiece});
    if (n > 0) copies.push_back({run.to, bytes, n});
    run = {run.to + n, run.bytes - n};
    if (run.bytes == 0) ++next_;
    bytes += n, rest -= n, left_ -= n;
    // A device's pools may move when they grow: what is to go there goes before a page is taken.
    if (!backend.host_memory) {
      for (const Copy& c : copies) backend.upload(c.to, c.from, c.bytes);
      copies.clear();
    }
  }
  const auto copy = [&](int64_t i, int = 0) { backend.upload(copies[i].to, copies[i].from, copies[i].bytes); };
  if (count < kWorthThreads) {
    for (size_t i = 0; i < copies.size(); ++i) copy(int64_t(i));
  } else {
    ThreadPool::global().parallel_for(int64_t(copies.size()), copy, stop);
  }
}

void StateImport::give_to(Session& session) {
  if (left_ > 0) throw Error(Code::kState, "snapshot: " + std::to_string(left_) + " bytes of its state are missing");
  std::swap(session.slot_, fresh_.slot_);
  std::swap(session.pages_, fresh_.pages_);
  session.position_ = fresh_.position_;
  session.pending_ = -1;
  session.history_ = History();
  session.last_row_.reset();
}

}  // namespace statespace
