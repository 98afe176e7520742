#include <algorithm>
#include <utility>

#include "core/error.h"
#include "program/state_export.h"
#include "program/state_import.h"

namespace statespace {

Session::Session(std::shared_ptr<Model> m, Empty) : model(std::move(m)) {}

Session::Session(std::shared_ptr<Model> m) : Session(std::move(m), Empty()) {
  const auto device = lock_device(program().backend());
  slot_ = model->states_.take();
  program().initial_state(model->states_.at(slot_));
}

Session::~Session() {
  truncate(0);
  if (slot_ >= 0) model->states_.give(slot_);
}

const Program& Session::program() const { return model->program; }

int64_t Session::bytes() const {
  const int64_t held = std::count_if(pages_.begin(), pages_.end(), [](int32_t p) { return p >= 0; });
  return program().state_bytes() + held * program().page_bytes();
}

int64_t Session::own_bytes() const {
  const int64_t state = model->states_.shared(slot_) ? 0 : program().state_bytes();
  return state + model->pages_.own(pages_) * program().page_bytes();
}

std::shared_ptr<Session> Session::fork() const {
  std::shared_ptr<Session> copy(new Session(model, Empty()));
  model->states_.share(slot_);
  copy->slot_ = slot_;
  copy->pages_ = pages_;
  model->pages_.share(pages_);
  copy->position_ = position_;
  copy->pending_ = pending_;
  copy->history_ = history_;
  copy->last_row_ = last_row_;
  copy->broken_ = broken_;
  return copy;
}

void Session::set_history(const std::vector<int32_t>& ids) {
  history_ = History();
  history_.append(ids.data(), int64_t(ids.size()));
}

void Session::set_pending(int32_t token) {
  if (pending_ >= 0 || token < 0 || token >= program().vocab())
    throw Error(Code::kArgument, "session: no token that can be pending");
  history_.append(&token, 1);
  pending_ = token;
}

void Session::set_last_row(const float* values, int64_t count) {
  last_row_ = std::make_shared<FloatBlock>(count);
  std::copy(values, values + count, last_row_->data());
}

void Session::extend(int64_t end) {
  if (!program().has_cache()) return;
  Pool& pool = model->pages_;
  const int64_t first = position_ / kPageTokens;
  if (first < int64_t(pages_.size()) && pages_[first] >= 0 && pool.shared(pages_[first])) {
    const int32_t own = pool.take();
    program().backend().copy(pool.at(own), pool.at(pages_[first]), pool.stride());
    pool.give(pages_[first]);
    pages_[first] = own;
  }
  while (int64_t(pages_.size()) < pages_for(end)) pages_.push_back(pool.take());
}

void Session::truncate(int64_t end) {
  const int64_t keep = pages_for(end);
  while (int64_t(pages_.size()) > keep) {
    if (pages_.back() >= 0) model->pages_.give(pages_.back());
    pages_.pop_back();
  }
}

int64_t Session::first_visible() const {
  const int64_t window = program().window();
  return window ? std::max<int64_t>(0, position_ - window + 1) : 0;
}

void Session::forget(int64_t begin, int64_t end) {
  for (int64_t p = pages_for(begin); p < end / kPageTokens && p < int64_t(pages_.size()); ++p)
    if (pages_[p] >= 0) model->pages_.give(pages_[p]), pages_[p] = -1;
}

int64_t Session::exported_bytes(const Program& p, int64_t position) {
  const int64_t first = p.window() ? std::max<int64_t>(0, position - p.window() + 1) : 0;
  int64_t bytes = p.state_bytes();
  for (const Value& v : p.graph().values)
    if (v.kind == ValueKind::cache) bytes += dtype_bytes(v.dtype, v.size()) * (position - first);
  return bytes;
}

void Session::export_state(uint8_t* to, const std::atomic<bool>* stop) const {
  StateExport(*this).read(to, exported_bytes(), stop);
}

std::vector<uint8_t> Session::export_state() const {
  std::vector<uint8_t> out(exported_bytes());
  export_state(out.data());
  return out;
}

void Session::import_state(const uint8_t* bytes, int64_t size, int64_t position, const std::atomic<bool>* stop) {
  StateImport arriving(model, size, position);
  arriving.take(bytes, size, stop);
  arriving.give_to(*this);
}

}  // namespace statespace
