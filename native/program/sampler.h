#pragma once
// Chooses a token from a row of logits, where the row lies: nothing of it is sorted whole, nothing leaves for
// JavaScript.
//
// The chain, in order: repetition penalty (Keskar et al. 2019), frequency and presence penalties, bias, banned tokens
// (a mask; stops before min_tokens), temperature, top-k, top-p (Holtzman et al. 2020), min-p, typical-p (Meister et al.
// 2023), the draw. Filters keep the best of a ranking, so each is a cut through it; the draw walks what is left in the
// order of the last ranking, without a ranking in the order of ids.
#include <cstdint>
#include <utility>
#include <vector>

#include "program/history.h"

namespace statespace {

struct SamplerOptions {
  int64_t vocab = 0;       // ids at and above it are never chosen
  double temperature = 0;  // 0: the likeliest
  int64_t top_k = 0;       // 0: all
  double top_p = 1, min_p = 0, typical_p = 1;
  double repetition_penalty = 1, frequency_penalty = 0, presence_penalty = 0;
  int64_t penalty_last_n = -1;  // tokens that the penalties look at; -1: all
  std::vector<std::pair<int32_t, float>> bias;
  int64_t min_tokens = 0;  // stop_ids are banned before so many were chosen
  std::vector<int32_t> stop_ids;
  bool logprob = true;
  int64_t alternatives = 0;
  uint64_t seed = 0;
};

struct Chosen {
  int32_t token = -1;
  float logprob = 0;                                    // of the row as it came, at temperature 1
  std::vector<std::pair<int32_t, float>> alternatives;  // the likeliest of the row and their log-probabilities
};

class Sampler {
 public:
  explicit Sampler(SamplerOptions options);

  // The next token after `history` and the ids `fed`, of a row of `count` logits. mask: a bit for each id, 0: banned;
  // may be nullptr. One thread at a time.
  Chosen choose(const float* row, int64_t count, const History& history, const int32_t* fed, int64_t fed_count,
                const uint32_t* mask);
  const SamplerOptions& options() const { return options_; }

 private:
  void count_tokens(const History& history, const int32_t* fed, int64_t fed_count);
  void count(const int32_t* ids, int64_t n);
  const float* adjusted(const float* row, int64_t n, const uint32_t* mask);
  int32_t draw(const float* logits, int64_t n, float top);
  int32_t draw_of_few(const float* logits, int64_t n);
  double uniform();

  const SamplerOptions options_;
  uint64_t state_;
  int64_t chosen_ = 0;           // tokens so far
  int64_t counted_ = 0;          // of the history
  std::vector<int32_t> counts_;  // by id
  std::vector<int32_t> seen_;    // ids whose count was above 0
  std::vector<int32_t> recent_;  // the last penalty_last_n tokens, as a ring
  std::vector<float> logits_;
};

}  // namespace statespace
