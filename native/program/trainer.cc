#include "program/trainer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/adamw.h"
#include "core/error.h"
#include "program/trainer_pieces.h"
#include "program/weight_terms.h"

namespace statespace {
namespace {

int64_t size_of(const TrainerLayout::Weight& w) {
  if (w.map == TrainerLayout::Map::constant) return int64_t(w.constants.size());
  if (w.map == TrainerLayout::Map::gather) return int64_t(w.index.size());
  if (w.map == TrainerLayout::Map::terms) return int64_t(w.starts.size()) - 1;
  int64_t n = 0;
  for (const auto& p : w.parts) n += p.count;
  return n;
}

}  // namespace

Trainer::Trainer(const Backend& backend, Graph training, Graph evaluation, TrainerLayout layout)
    : training_(backend, std::move(training)),
      evaluation_(backend, std::move(evaluation)),
      layout_(std::move(layout)),
      memory_(layout_.parameters.size()),
      adapted_(layout_.parameters.size(), false),
      workspace_(backend) {
  for (const auto& a : layout_.adapters) adapted_.at(a.base) = true;
  place();
}

int64_t Trainer::count(int32_t parameter) const { return layout_.parameters.at(parameter).count; }

// Memory for weights and fixed values, and for parameters what does not lie there.
void Trainer::place() {
  const Graph& g = training_.graph();
  auto reserve = [&](int32_t id) -> Tensor& {
    if (id < 0 || id >= int64_t(g.values.size())) throw Error(Code::kArgument, "trainer: no such value");
    Tensor& t = training_.weights()[id];
    if (t) return t;
    const Value& v = g.values[id];
    t.dtype = v.dtype, t.rank = v.rank;
    std::copy(v.dims, v.dims + v.rank, t.shape);
    t.row_stride = t.row_size();
    t.data = pages_.take(t.bytes());
    return t;
  };
  for (size_t id = 0; id < g.values.size(); ++id)
    if (g.values[id].kind == ValueKind::weight || g.values[id].kind == ValueKind::fixed) reserve(int32_t(id));
  std::vector<int> uses(memory_.size(), 0);
  for (const auto& w : layout_.weights) {
    const Tensor& t = reserve(w.value);
    if (t.size() != size_of(w)) throw Error(Code::kArgument, "trainer: a weight from values of another number");
    if (w.map == TrainerLayout::Map::gather)
      for (const auto* more : {&w.factors, &w.constants})
        if (!more->empty() && more->size() != w.index.size())
          throw Error(Code::kArgument, "trainer: factors or constants of another number");
    int64_t all = 0;
    for (const auto& p : w.parts) {
      if (p.first < 0 || p.count < 0 || p.first + p.count > count(p.parameter))
        throw Error(Code::kArgument, "trainer: a weight from values outside its parameter");
      ++uses[p.parameter];
      all += p.count;
    }
    if (w.map == TrainerLayout::Map::terms) check_terms(w, all);
    for (int32_t i : w.index)
      if (w.map == TrainerLayout::Map::gather && (i < 0 || i >= all))
        throw Error(Code::kArgument, "trainer: a weight from values outside its parts");
    for (int32_t id : w.gradients)
      if (reserve(id).size() != t.size() || reserve(id).dtype != DType::f32)
        throw Error(Code::kArgument, "trainer: a gradient of another size");
  }
  for (const auto& w : layout_.weights) {
    const Tensor& t = training_.weights()[w.value];
    int64_t at = 0;
    for (const auto& p : w.parts) {
      Memory& m = memory_[p.parameter];
      const bool whole = w.map == TrainerLayout::Map::copy && uses[p.parameter] == 1 && p.count == count(p.parameter);
      if (whole && !adapted_[p.parameter] && t.dtype == DType::f32) m.value = t.f32() + at;
      if (whole && w.gradients.size() == 1) {
        m.gradient = fixed(w.gradients[0]) + at;
        m.added = g.values[w.gradients[0]].added;
      }
      at += p.count;
    }
  }
  for (size_t i = 0; i < memory_.size(); ++i)
    if (!memory_[i].value) memory_[i].value = pages_.floats(layout_.parameters[i].count);
  // The evaluation graph begins as the other does: what both have is the same memory.
  for (size_t id = 0; id < evaluation_.weights().size() && id < g.values.size(); ++id)
    evaluation_.weights()[id] = training_.weights()[id];
}

void Trainer::read(Which which, int32_t p, float* to, Stop stop) const {
  const Memory& m = memory_.at(p);
  const float* from = m.value;
  if (which == Which::gradient) from = gradient(p);
  if (which == Which::merged) from = source(p);
  if (which == Which::mean) from = m.mean;
  if (which == Which::square) from = m.square;
  if (from)
    copy_pieces(from, to, count(p), stop);
  else
    clear_pieces(to, count(p) * 4, stop);
}

void Trainer::write(Which which, int32_t p, const float* from, Stop stop) {
  Memory& m = memory_.at(p);
  float* to = m.value;
  if (which == Which::mean) to = made(m.mean, count(p));
  if (which == Which::square) to = made(m.square, count(p));
  if (which == Which::gradient || which == Which::merged)
    throw Error(Code::kArgument, "trainer: what is computed is not set");
  copy_pieces(from, to, count(p), stop);
}

float* Trainer::values_of(int32_t p, int64_t first, int64_t values) {
  if (first < 0 || values < 0 || values > count(p) || first > count(p) - values)
    throw Error(Code::kArgument, "trainer: values outside their parameter");
  return memory_[p].value + first;
}

void Trainer::run_part(const Program& program, const TrainingPart& part, bool first, int64_t total,
                       const Program::Cancelled& cancelled, Stop stop) {
  Batch batch;
  batch.whole = true;
  batch.adds = !first;
  batch.tokens = batch.outputs = part.tokens;
  batch.sequences = int64_t(part.cu_seqlens.size()) - 1;
  batch.cu_seqlens = part.cu_seqlens;
  batch.positions.resize(part.tokens);
  for (int64_t s = 0; s < batch.sequences; ++s) {
    batch.slots.push_back(int32_t(s));
    for (int32_t t = part.cu_seqlens[s]; t < part.cu_seqlens[s + 1]; ++t) batch.positions[t] = t - part.cu_seqlens[s];
  }
  if (part.ids) batch.ids.assign(part.ids, part.ids + part.tokens);
  if (part.targets_given != (layout_.by_sequence ? batch.sequences : part.tokens) * layout_.target_width)
    throw Error(Code::kShape, "trainer: targets of another number than the rows that they are for");
  batch.targets.assign(part.targets, part.targets + part.targets_given);
  batch.input = part.input;
  const int64_t slot = program.state_bytes();
  if (slot * batch.sequences > states_.bytes()) states_ = Buffer(slot * batch.sequences);
  if (slot) std::memset(states_.data(), 0, slot * batch.sequences);
  batch.state_base = states_.data();
  batch.state_pool = batch.sequences;
  for (int64_t s = 0; s < batch.sequences && slot; ++s)
    program.initial_state(static_cast<char*>(states_.data()) + s * slot);
  if (layout_.divisor >= 0) *fixed(layout_.divisor) = float(total);
  if (layout_.dloss >= 0) *fixed(layout_.dloss) = total ? float(double(part.counted) / double(total)) : 0;
  Undo undo;
  program.run(batch, workspace_, cancelled, undo, stop);
}

float Trainer::run(const std::vector<TrainingPart>& parts, bool gradients, const Program::Cancelled& cancelled,
                   Stop stop) {
  int64_t total = 0;
  for (const auto& p : parts) {
    total += p.counted;
    for (int64_t t = 0; p.ids && t < p.tokens; ++t)
      if (p.ids[t] < 0 || p.ids[t] >= training_.vocab())
        throw Error(Code::kArgument, "trainer: ids[" + std::to_string(t) + "]: expected an id from 0 to " +
                                         std::to_string(training_.vocab() - 1) + ", received " +
                                         std::to_string(p.ids[t]));
  }
  if (gradients) several_ = parts.size() > 1;
  double loss = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    run_part(gradients ? training_ : evaluation_, parts[i], i == 0, total, cancelled, stop);
    const double share = layout_.dloss >= 0 ? *fixed(layout_.dloss) : 1;
    loss += share * *fixed(layout_.loss);
    if (gradients) gather(i == 0, i + 1 == parts.size(), stop);
  }
  if (gradients) gather_adapters(stop);
  return float(loss);
}

double Trainer::gradient_norm(Stop stop) const {
  double total = 0;
  for (size_t p = 0; p < memory_.size(); ++p) {
    if (!layout_.parameters[p].trained) continue;
    const int64_t n = layout_.parameters[p].count;
    const float* g = gradient(int32_t(p));
    std::vector<double> sums((n + kTrainerPiece - 1) / kTrainerPiece);
    for_pieces(n, stop, [&](int64_t begin, int64_t end) {
      sums[begin / kTrainerPiece] = optimizer().squares(g + begin, end - begin);
    });
    for (double x : sums) total += x;
  }
  return std::sqrt(total);
}

void Trainer::prepare_update(Stop stop) {
  for (size_t p = 0; p < memory_.size(); ++p) {
    if (!layout_.parameters[p].trained) continue;
    for (float* Memory::*moment : {&Memory::mean, &Memory::square})
      if (!(memory_[p].*moment)) clear_pieces(made(memory_[p].*moment, count(int32_t(p))), count(int32_t(p)) * 4, stop);
  }
}

void Trainer::update(const AdamW& o, double norm, Stop ended) {
  const double first = 1 - std::pow(o.beta1, double(o.t)), second = 1 - std::pow(o.beta2, double(o.t));
  AdamWStep step{};
  step.clip = o.max_norm > 0 ? float(std::min(1.0, o.max_norm / (norm + 1e-6))) : 1;
  step.beta1 = float(o.beta1), step.beta2 = float(o.beta2);
  step.rest1 = float(1 - o.beta1), step.rest2 = float(1 - o.beta2);
  step.rate = float(o.learning_rate / first), step.root = float(1 / std::sqrt(second)), step.eps = float(o.eps);
  for (size_t p = 0; p < memory_.size(); ++p) {
    const auto& parameter = layout_.parameters[p];
    if (!parameter.trained) continue;
    step.keep = parameter.decayed ? float(1 - o.learning_rate * o.decay) : 1;
    float* w = memory_[p].value;
    float* m = made(memory_[p].mean, parameter.count);
    float* v = made(memory_[p].square, parameter.count);
    const float* gradients = gradient(int32_t(p));
    for_pieces(parameter.count, ended, [&](int64_t begin, int64_t end) {
      optimizer().adamw(step, gradients + begin, end - begin, w + begin, m + begin, v + begin);
    });
  }
  refresh(ended);
}

}  // namespace statespace
