// Both ways between a trainer's parameters and the weights that its graph reads: values forth, gradients back.
#include <cmath>
#include <cstring>

#include "core/conversions.h"
#include "core/halves.h"
#include "program/trainer.h"
#include "program/trainer_pieces.h"
#include "program/weight_terms.h"

namespace statespace {
namespace {

using Stop = Trainer::Stop;

void add_to(float* sum, const float* x, int64_t count, Stop stop) {
  for_pieces(count, stop, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) sum[i] += x[i];
  });
}

// c (m, n) += scale · a (m, k) b (k, n); the strides say how a and b lie.
void add_product(float* c, const float* a, int64_t a_row, int64_t a_column, const float* b, int64_t b_row, int64_t m,
                 int64_t n, int64_t k, float scale, Stop stop) {
  ThreadPool::global().parallel_for(
      m,
      [&](int64_t i, int) {
        float* row = c + i * n;
        for (int64_t j = 0; j < k; ++j) {
          const float factor = scale * a[i * a_row + j * a_column];
          const float* from = b + j * b_row;
          for (int64_t l = 0; l < n; ++l) row[l] += factor * from[l];
        }
      },
      stop);
}

}  // namespace

const float* Trainer::source(int32_t p) const {
  const Memory& m = memory_[p];
  return adapted_[p] ? m.effective : m.value;
}

bool Trainer::gathers(int32_t p) const { return layout_.parameters[p].trained || adapted_[p]; }

// Where the backward program leaves a batch's gradient as it is; nullptr: gather() makes it.
const float* Trainer::direct(int32_t p) const {
  const Memory& m = memory_[p];
  return m.added || !several_ ? m.gradient : nullptr;
}

const float* Trainer::gradient(int32_t p) const {
  const float* there = direct(p);
  return there ? there : memory_[p].sum;
}

void Trainer::refresh_adapters(Stop stop) {
  for (const auto& a : layout_.adapters) {
    Memory& m = memory_[a.base];
    float* effective = made(m.effective, a.rows * a.columns);
    copy_pieces(m.value, effective, a.rows * a.columns, stop);
    add_product(effective, memory_[a.b].value, a.rank, 1, memory_[a.a].value, a.columns, a.rows, a.columns, a.rank,
                a.scale, stop);
  }
}

std::vector<float> Trainer::joined(const TrainerLayout::Weight& w) const {
  std::vector<float> values;
  for (const auto& p : w.parts)
    values.insert(values.end(), source(p.parameter) + p.first, source(p.parameter) + p.first + p.count);
  return values;
}

void Trainer::refresh(Stop stop) {
  refresh_adapters(stop);
  for (const auto& w : layout_.weights) {
    const Tensor& t = training_.weights()[w.value];
    if (w.map == TrainerLayout::Map::constant) {
      for (int64_t i = 0; i < t.size(); ++i) write_float(t.data, t.dtype, i, w.constants[i]);
      continue;
    }
    if (w.map == TrainerLayout::Map::terms) {
      sum_terms(w, joined(w), t);
      continue;
    }
    if (w.map == TrainerLayout::Map::gather) {
      const std::vector<float> values = joined(w);
      for_pieces(t.size(), stop, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const float factor = w.factors.empty() ? 1 : w.factors[i], shift = w.constants.empty() ? 0 : w.constants[i];
          write_float(t.data, t.dtype, i, factor * values[w.index[i]] + shift);
        }
      });
      continue;
    }
    int64_t at = 0;
    for (const auto& p : w.parts) {
      const float* from = source(p.parameter) + p.first;
      const bool there = t.dtype == DType::f32 && from == t.f32() + at;
      if (!there && w.map == TrainerLayout::Map::copy && t.dtype != DType::f32)
        for_pieces(p.count, stop, [&](int64_t begin, int64_t end) {
          conversions().narrow(from + begin, end - begin, t.dtype, t.as<char>() + dtype_bytes(t.dtype, at + begin));
        });
      else if (!there)
        for_pieces(p.count, stop, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i)
            write_float(t.data, t.dtype, at + i, w.map == TrainerLayout::Map::copy ? from[i] : -std::exp(from[i]));
        });
      at += p.count;
    }
  }
}

// Gradients of weights as those of parameters, added to what other weights and earlier parts gave. Those that parts add
// to themselves have all of the batch after the last.
void Trainer::gather(bool first, bool last, Stop stop) {
  if (first)
    for (size_t p = 0; p < memory_.size(); ++p)
      if (gathers(int32_t(p)) && !direct(int32_t(p)))
        clear_pieces(made(memory_[p].sum, layout_.parameters[p].count), layout_.parameters[p].count * 4, stop);
  for (const auto& w : layout_.weights)
    for (int32_t id : w.gradients) {
      if (!last && training_.graph().values[id].added) continue;
      const float* from = fixed(id);
      if (w.map == TrainerLayout::Map::gather || w.map == TrainerLayout::Map::terms) {
        std::vector<float*> to;
        for (const auto& p : w.parts) {
          const bool wanted = gathers(p.parameter);
          float* sum = wanted ? made(memory_[p.parameter].sum, count(p.parameter)) + p.first : nullptr;
          for (int64_t i = 0; i < p.count; ++i) to.push_back(wanted ? sum + i : nullptr);
        }
        if (w.map == TrainerLayout::Map::terms) {
          add_term_gradients(w, joined(w), from, to, stop);
          continue;
        }
        for (size_t i = 0; i < w.index.size(); ++i) {
          if (i % kTrainerPiece == 0) throw_if_stopped(stop);
          if (float* sum = to[w.index[i]]) *sum += (w.factors.empty() ? 1 : w.factors[i]) * from[i];
        }
        continue;
      }
      int64_t at = 0;
      for (const auto& p : w.parts) {
        Memory& m = memory_[p.parameter];
        if (gathers(p.parameter) && !direct(p.parameter)) {
          float* sum = made(m.sum, count(p.parameter)) + p.first;
          if (w.map == TrainerLayout::Map::copy)
            add_to(sum, from + at, p.count, stop);
          else
            for (int64_t i = 0; i < p.count; ++i) sum[i] -= from[at + i] * std::exp(m.value[p.first + i]);
        }
        at += p.count;
      }
    }
}

// With G the gradient of base + scale · b·a: db = scale · G aᵀ, da = scale · bᵀ G.
void Trainer::gather_adapters(Stop stop) {
  for (const auto& t : layout_.adapters) {
    const float* g = gradient(t.base);
    const float *a = memory_[t.a].value, *b = memory_[t.b].value;
    float* da = made(memory_[t.a].sum, t.rank * t.columns);
    float* db = made(memory_[t.b].sum, t.rows * t.rank);
    std::memset(da, 0, t.rank * t.columns * 4);
    add_product(da, b, 1, t.rank, g, t.columns, t.rank, t.columns, t.rows, t.scale, stop);
    ThreadPool::global().parallel_for(
        t.rows,
        [&](int64_t i, int) {
          for (int64_t r = 0; r < t.rank; ++r) {
            float sum = 0;
            for (int64_t j = 0; j < t.columns; ++j) sum += g[i * t.columns + j] * a[r * t.columns + j];
            db[i * t.rank + r] = t.scale * sum;
          }
        },
        stop);
  }
}

}  // namespace statespace
