#include "program/sampler.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "core/error.h"
#include "core/logits.h"
#include "program/ranking.h"

namespace statespace {
namespace {

constexpr float kBanned = -std::numeric_limits<float>::infinity();
// Up to so many are kept by top-k in a buffer; more are ranked.
constexpr int64_t kFew = 1024;

// One thread's memory for a row: a vocabulary's worth of fresh pages costs more than a pass over it.
struct RowMemory {
  std::vector<float> keys, weights, distances;
  Ranking ranking, typical;
};
RowMemory& row_memory() {
  static thread_local RowMemory memory;
  return memory;
}

int32_t first_of(const float* x, int64_t n, float value) {
  for (int64_t i = 0; i < n; ++i)
    if (x[i] == value) return int32_t(i);
  return 0;
}

// top - x, from 0 on; what is no number is farthest.
inline float below(float x, float top) {
  const float d = top - x;
  return x == top ? 0 : d >= 0 ? d : std::numeric_limits<float>::infinity();
}

double log_sum_exp(const float* x, int64_t n, float top) {
  if (std::isinf(top)) return top;
  auto& weights = row_memory().weights;
  weights.resize(n);
  return top + std::log(logit_loops().weigh(x, n, top, 1, 0, weights.data(), nullptr));
}

struct Candidate {
  float logit;
  int32_t id;
  // Better ones first.
  bool operator<(const Candidate& o) const { return logit != o.logit ? logit > o.logit : id < o.id; }
};

// The k best of a row, sorted. As many blocks as k have a value of the k-th highest of the blocks' maxima or more, so
// that the others hold none of the best.
std::vector<Candidate> best(const float* x, int64_t n, int64_t k) {
  const size_t wanted = size_t(std::min(k, n));
  const int64_t block = k <= n / 64 ? 64 : 16;
  std::vector<float> maxima((n + block - 1) / block);
  logit_loops().maxima(x, n, block, maxima.data());
  float least = kBanned;
  if (wanted <= maxima.size()) {
    std::vector<float> order = maxima;
    std::nth_element(order.begin(), order.begin() + (wanted - 1), order.end(), std::greater<>());
    least = order[wanted - 1];
  }
  std::vector<Candidate> kept;
  for (size_t b = 0; b < maxima.size(); ++b) {
    if (!(maxima[b] >= least)) continue;
    const int64_t first = int64_t(b) * block, end = std::min(n, first + block);
    for (int64_t i = first; i < end; ++i)
      if (x[i] >= least && x[i] > kBanned) kept.push_back({x[i], int32_t(i)});
  }
  for (int64_t i = 0; i < n && kept.size() < wanted; ++i)
    if (!(x[i] > kBanned)) kept.push_back({kBanned, int32_t(i)});
  if (kept.size() > wanted) {
    std::nth_element(kept.begin(), kept.begin() + (wanted - 1), kept.end());
    kept.resize(wanted);
  }
  std::sort(kept.begin(), kept.end());
  return kept;
}

// Typical sampling: of things with weights e^-key, those whose surprise is nearest the mean until they reach `share`.
// Calls draw(ranking by that distance, how many are kept). total: of the weights.
template <class Fn>
auto with_typical(const float* keys, const float* weights, int64_t n, double total, double share, Fn&& draw) {
  RowMemory& memory = row_memory();
  memory.distances.resize(n);
  const float middle =
      float(logit_loops().weighted(weights, keys, n) / total);  // of keys: surprise is key + log(total)
  logit_loops().distances(weights, keys, n, middle, memory.distances.data());
  memory.typical.rank(memory.distances.data(), weights, n);
  return draw(memory.typical, memory.typical.reach(share * total, n));
}

}  // namespace

Sampler::Sampler(SamplerOptions options) : options_(std::move(options)), state_(options_.seed) {}

// splitmix64 (Steele et al. 2014): uniform in [0, 1) with 53 bits.
double Sampler::uniform() {
  state_ += 0x9e3779b97f4a7c15ull;
  uint64_t z = state_;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ z >> 27) * 0x94d049bb133111ebull;
  z ^= z >> 31;
  return double(z >> 11) * 0x1p-53;
}

void Sampler::count(const int32_t* ids, int64_t n) {
  const int64_t window = options_.penalty_last_n;
  if (window >= 0 && n > window) ids += n - window;
  for (int64_t i = 0; i < (window >= 0 ? std::min(n, window) : n); ++i) {
    const int32_t id = ids[i];
    if (id < 0 || id >= options_.vocab) continue;
    if (counts_[id]++ == 0) seen_.push_back(id);
  }
}

void Sampler::count_tokens(const History& history, const int32_t* fed, int64_t fed_count) {
  const SamplerOptions& o = options_;
  if (o.repetition_penalty == 1 && o.frequency_penalty == 0 && o.presence_penalty == 0) return;
  counts_.resize(o.vocab);
  const int64_t total = history.size() + fed_count;
  if (o.penalty_last_n >= 0 || total < counted_) {  // a window moves: its tokens are counted anew
    for (int32_t id : seen_) counts_[id] = 0;
    seen_.clear();
    counted_ = o.penalty_last_n < 0 ? 0 : std::max<int64_t>(0, total - o.penalty_last_n);
  }
  const auto news = history.since(counted_);
  const int64_t skip = std::max<int64_t>(0, counted_ - history.size());
  count(news.data(), int64_t(news.size()));
  if (skip < fed_count) count(fed + skip, fed_count - skip);
  counted_ = total;
}

// The row with penalties, bias and bans; itself where there are none.
const float* Sampler::adjusted(const float* row, int64_t n, const uint32_t* mask) {
  const SamplerOptions& o = options_;
  const bool early = chosen_ < o.min_tokens && !o.stop_ids.empty();
  if (seen_.empty() && o.bias.empty() && !early && !mask) return row;
  logits_.assign(row, row + n);
  for (int32_t id : seen_) {
    if (id >= n || counts_[id] == 0) continue;
    double x = logits_[id];
    x = x > 0 ? x / o.repetition_penalty : x * o.repetition_penalty;
    logits_[id] = float(x - counts_[id] * o.frequency_penalty - o.presence_penalty);
  }
  for (const auto& [id, bias] : o.bias)
    if (id < n) logits_[id] += bias;
  if (early)
    for (int32_t id : o.stop_ids)
      if (id < n) logits_[id] = kBanned;
  if (mask)
    for (int64_t i = 0; i < n; ++i)
      if (!(mask[i / 32] >> (i % 32) & 1)) logits_[i] = kBanned;
  return logits_.data();
}

// Top-k of few: the best in a buffer, and every filter a walk over it.
int32_t Sampler::draw_of_few(const float* logits, int64_t n) {
  const SamplerOptions& o = options_;
  std::vector<Candidate> kept = best(logits, n, o.top_k);
  const float top = kept[0].logit;
  std::vector<float> keys, weights;
  double total = 0;
  for (const Candidate& c : kept) {
    const double key = below(c.logit, top) / o.temperature;
    keys.push_back(float(key));
    weights.push_back(float(std::exp(-key)));
    total += weights.back();
  }
  size_t count = kept.size();
  if (o.top_p < 1) {
    double reached = 0;
    size_t taken = 0;
    while (taken < count && reached < o.top_p * total) reached += weights[taken++];
    count = std::max<size_t>(1, taken);
  }
  while (count > 1 && weights[count - 1] < o.min_p) --count;
  weights.resize(count);
  double left = 0;
  for (float w : weights) left += w;
  if (o.typical_p < 1)
    return kept[with_typical(keys.data(), weights.data(), int64_t(count), left, o.typical_p,
                             [&](Ranking& r, int64_t some) { return r.find(uniform() * r.mass(some), some); })]
        .id;
  left *= uniform();
  for (size_t i = 0; i < count; ++i)
    if ((left -= weights[i]) < 0) return kept[i].id;
  return kept[0].id;
}

int32_t Sampler::draw(const float* logits, int64_t n, float top) {
  const SamplerOptions& o = options_;
  if (o.top_k > 0 && o.top_k <= kFew) return draw_of_few(logits, n);
  if (std::isinf(top)) return first_of(logits, n, top);
  RowMemory& memory = row_memory();
  memory.weights.resize(n);
  const LogitLoops& loops = logit_loops();
  float* weights = memory.weights.data();
  const float factor = float(1 / o.temperature), least = float(o.min_p);
  const bool ranked = o.top_k > 0 || o.top_p < 1;
  if (!ranked && o.typical_p >= 1) {
    constexpr int64_t kBlock = 256;
    std::vector<double> parts((n + kBlock - 1) / kBlock);
    double sum = 0;
    for (int64_t b = 0; b < int64_t(parts.size()); ++b) {
      const int64_t i = b * kBlock;
      sum += parts[b] = loops.weigh(logits + i, std::min(kBlock, n - i), top, factor, least, weights + i, nullptr);
    }
    double left = uniform() * sum;
    for (int64_t b = 0; b < int64_t(parts.size()); ++b) {
      if (left >= parts[b]) {  // not in this block
        left -= parts[b];
        continue;
      }
      for (int64_t i = b * kBlock; i < std::min(n, (b + 1) * kBlock); ++i)
        if ((left -= weights[i]) < 0) return int32_t(i);
    }
    return first_of(logits, n, top);
  }
  memory.keys.resize(n);
  float* keys = memory.keys.data();
  const auto find = [&](Ranking& r, int64_t some) { return r.find(uniform() * r.mass(some), some); };
  if (!ranked) {
    const double total = loops.weigh(logits, n, top, factor, least, weights, keys);
    return with_typical(keys, weights, n, total, o.typical_p, find);
  }
  loops.weigh(logits, n, top, factor, 0, weights, keys);
  Ranking& ranking = memory.ranking;
  ranking.rank(keys, weights, n);
  int64_t kept = o.top_k > 0 ? std::min(o.top_k, n) : n;
  if (o.top_p < 1) kept = ranking.reach(o.top_p * ranking.mass(kept), kept);
  if (least > 0) {
    int64_t likely = 0;
    for (int64_t i = 0; i < n; ++i) likely += weights[i] >= least;
    kept = std::clamp<int64_t>(likely, 1, kept);
  }
  if (o.typical_p >= 1) return find(ranking, kept);
  const std::vector<int32_t> ids = ranking.first(kept);
  std::vector<float> kept_keys(ids.size()), kept_weights(ids.size());
  double total = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    kept_keys[i] = keys[ids[i]], kept_weights[i] = weights[ids[i]];
    total += kept_weights[i];
  }
  return ids[with_typical(kept_keys.data(), kept_weights.data(), int64_t(ids.size()), total, o.typical_p, find)];
}

namespace {

// Where no token is left: a model that computes nothing but NaN says so, and not its first token for ever, nor is that
// said where all are banned.
[[noreturn]] void refuse(const float* row, int64_t n) {
  if (std::all_of(row, row + n, [](float x) { return std::isnan(x); }))
    throw Error(Code::kState, "sample: none of the " + std::to_string(n) +
                                  " logits is a number: the weights, or what was fed, hold NaN or infinity");
  throw Error(Code::kArgument, "sample: none of the " + std::to_string(n) +
                                   " tokens may come: logitBias, processLogits or the format bans all of them");
}

}  // namespace

Chosen Sampler::choose(const float* row, int64_t count, const History& history, const int32_t* fed, int64_t fed_count,
                       const uint32_t* mask) {
  const int64_t n = std::min(count, options_.vocab);
  count_tokens(history, fed, fed_count);
  const float* logits = adjusted(row, n, mask);
  const float top = logit_loops().highest(logits, n);
  if (top == kBanned && n > 0) refuse(row, n);
  Chosen chosen;
  const bool greedy = options_.temperature == 0 || n == 0;
  chosen.token = greedy ? first_of(logits, n, top) : draw(logits, n, top);
  ++chosen_;
  if (options_.logprob || options_.alternatives > 0) {
    const double all = log_sum_exp(row, n, logits == row ? top : logit_loops().highest(row, n));
    chosen.logprob = float(row[chosen.token] - all);
    if (options_.alternatives > 0)
      for (const Candidate& c : best(row, n, std::min(options_.alternatives, n)))
        chosen.alternatives.emplace_back(c.id, float(c.logit - all));
  }
  return chosen;
}

}  // namespace statespace
