#include "program/model.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <unordered_map>

#include "core/afterwards.h"
#include "core/error.h"
#include "program/forward.h"

namespace statespace {
namespace {

using Clock = std::chrono::steady_clock;

// A workspace of more is given back when nothing has needed half of it for so long: one large batch is no reason to
// hold its memory for ever, and a prompt now and then none to wait for fresh pages.
constexpr int64_t kKeptWorkspace = 64 << 20;
constexpr std::chrono::seconds kKeptFor(5);
bool outlived(const Workspace& w) { return w.bytes() > kKeptWorkspace && Clock::now() - w.filled >= kKeptFor; }

// Activations of one chunk should stay in the caches; a product wants at least a few hundred rows.
int64_t choose_chunk(const Program& p) {
  if (p.looks_ahead()) return INT32_MAX;
  if (const char* env = std::getenv("STATESPACE_CHUNK")) return std::max(1, std::atoi(env));
  // A long convolution reads all of the past for every chunk: fewer and longer ones.
  const bool past = p.max_tokens() < INT32_MAX;
  const int64_t budget = past ? 64 << 20 : 16 << 20, most = past ? 4096 : 1024;
  return std::clamp<int64_t>(budget / std::max<int64_t>(1, p.token_bytes()) / 64 * 64, 256, most);
}

}  // namespace

Model::Model(const Backend& backend, Graph graph)
    : program(backend, std::move(graph)),
      states_(backend, program.state_bytes(), Fresh::zeros),
      pages_(backend, program.page_bytes(), backend.host_memory ? Fresh::anything : Fresh::zeros),
      chunk_tokens_(choose_chunk(program)),
      held_(std::make_shared<Held>(WeightMemory(backend, program.graph()))) {
  for (const Value& v : program.graph().values)
    if (v.kind == ValueKind::fixed) throw Error(Code::kArgument, "graph: a model has no fixed values");
}

std::unique_ptr<Workspace> Model::enter() {
  const std::lock_guard lock(mutex_);
  if (disposed_) throw Error(Code::kDisposed, "model: it has been disposed of");
  std::unique_ptr<Workspace> w;
  if (workspaces_.empty()) {
    w = std::make_unique<Workspace>(program.backend());
  } else {
    w = std::move(workspaces_.back());
    workspaces_.pop_back();
  }
  ++forwards_;
  return w;
}

void Model::leave(std::unique_ptr<Workspace> workspace, int64_t tokens) {
  if (2 * tokens >= workspace->most_tokens) workspace->filled = Clock::now();
  if (outlived(*workspace)) {
    const auto device = lock_device(program.backend());
    workspace.reset();
  }
  const std::lock_guard lock(mutex_);
  if (--forwards_ == 0 && disposed_) free_weights();
  if (!workspace || disposed_) return;
  const bool large = workspace->bytes() > kKeptWorkspace;
  workspaces_.push_back(std::move(workspace));
  if (large && !trimming_) trim_in(kKeptFor);
}

// Called with the lock held.
void Model::trim_in(std::chrono::seconds delay) {
  trimming_ = afterwards(delay, [model = weak_from_this()] {
    if (const auto alive = model.lock()) alive->trim();
  });
}

// Frees what nothing has needed for long, and comes again for the rest.
void Model::trim() {
  std::vector<std::unique_ptr<Workspace>> idle;
  {
    const std::lock_guard lock(mutex_);
    for (auto& w : workspaces_)
      if (outlived(*w)) idle.push_back(std::move(w));
    std::erase(workspaces_, nullptr);
    trimming_ = false;
    const auto large = [](const auto& w) { return w->bytes() > kKeptWorkspace; };
    if (std::any_of(workspaces_.begin(), workspaces_.end(), large)) trim_in(kKeptFor / 5);
  }
  const auto device = lock_device(program.backend());
  idle.clear();
}

int64_t Model::workspace_bytes() {
  const std::lock_guard lock(mutex_);
  int64_t all = 0;
  for (const auto& w : workspaces_) all += w->bytes();
  return all;
}

void Model::dispose() {
  const std::lock_guard lock(mutex_);
  disposed_ = true;
  if (forwards_ == 0) free_weights();
}

void Model::free_weights() {
  const auto device = lock_device(program.backend());
  workspaces_.clear();
  // With the last of those that share them the weights are gone.
  held_ = std::make_shared<Held>(WeightMemory(program.backend()));
}

namespace {

// What models have published, for as long as one of them holds it.
struct Published {
  std::mutex mutex;
  std::unordered_map<std::string, std::weak_ptr<void>> by_key;
};
Published& published() {
  static Published& all = *new Published;  // outlives every thread that may still free a model
  return all;
}

}  // namespace

void Model::take(std::shared_ptr<Held> held) {
  program.weights() = held->tensors;
  const auto device = lock_device(program.backend());
  held_ = std::move(held);
}

void Model::own() {
  if (!held_->tensors.empty()) {
    held_ = std::make_shared<Held>(*held_);
    held_->tensors.clear();
    held_->fresh = WeightMemory(program.backend());  // the rest of the range is the other's
  }
  held_->memory.resize(program.graph().values.size());
}

bool Model::adopt(const std::string& key) {
  std::shared_ptr<Held> found;
  {
    const std::lock_guard lock(published().mutex);
    const auto at = published().by_key.find(key);
    if (at != published().by_key.end()) found = std::static_pointer_cast<Held>(at->second.lock());
  }
  if (!found) return false;
  take(std::move(found));
  return true;
}

void Model::publish(const std::string& key) {
  if (adopt(key)) return;
  held_->tensors = program.weights();
  const std::lock_guard lock(published().mutex);
  std::erase_if(published().by_key, [](const auto& entry) { return entry.second.expired(); });
  published().by_key.try_emplace(key, held_);
}

FloatBlock Model::forward(const std::vector<Request>& requests, const Program::Cancelled& cancelled) {
  Forward forward(shared_from_this(), requests, {});
  while (forward.advance(cancelled)) {
  }
  return std::move(forward.take_rows()[0]);
}

}  // namespace statespace
