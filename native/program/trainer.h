#pragma once
// A network being trained: parameters in f32 as the checkpoint has them, the weights that its graph reads made of them,
// their gradients, and AdamW. The graphs come from lib/graph/training.ts: one that ends in the loss and goes on with
// the backward ops, and one that ends there.
//
// A parameter that a weight holds as it stands (nearly all) lies in that weight, and its gradient in the weight's;
// others have memory of their own and are copied, repeated or exponentiated when they have changed. All sums are taken
// in an order that depends on sizes alone: the same batches give the same bits.
#include <string>
#include <vector>

#include "program/program.h"
#include "program/trainer_memory.h"

namespace statespace {

struct TrainerLayout {
  struct Parameter {
    int64_t count = 0;
    bool decayed = false;
    bool trained = true;
  };
  // Values [first, first + count) of a parameter, laid end to end in a weight.
  struct Part {
    int32_t parameter;
    int64_t first, count;
  };
  // What a weight makes of its parts: nothing, -exp, values of them by index, times factors and plus constants where
  // there are some, no parts: constants, or sums of products: term k is factors[k] · e^x · a · b of the values that
  // index[3k] … index[3k + 2] name (-1: absent), value i the sum of the terms from starts[i] to starts[i + 1].
  enum class Map : uint8_t { copy, negative_exp, gather, constant, terms };
  struct Weight {
    int32_t value;
    Map map;
    std::vector<Part> parts;
    std::vector<int32_t> starts;     // terms
    std::vector<int32_t> index;      // gather, terms
    std::vector<float> factors;      // gather, terms
    std::vector<float> constants;    // gather, constant
    std::vector<int32_t> gradients;  // values of the training graph whose sum is its gradient
  };
  // The weight that is multiplied with is base + scale · b·a, of b (rows, rank) and a (rank, columns) (Hu et al. 2021).
  struct Adapter {
    int32_t base, a, b;
    int64_t rows, columns, rank;
    float scale;
  };
  std::vector<Parameter> parameters;
  std::vector<Weight> weights;
  std::vector<Adapter> adapters;
  int32_t loss = -1;
  int32_t divisor = -1;      // what a loss over parts of a batch divides by, or
  int32_t dloss = -1;        // the share of this part in the batch's mean
  bool by_sequence = false;  // targets are of sequences, else of tokens
  int64_t target_width = 1;  // numbers that one target has
};

// Some sequences of a batch; arrays are kept alive by the caller.
struct TrainingPart {
  const int32_t* ids = nullptr;      // (tokens), or
  const float* input = nullptr;      // (tokens, features)
  const int32_t* targets = nullptr;  // ids, or the bits of f32 numbers
  int64_t tokens = 0, targets_given = 0;
  int64_t counted = 0;  // targets that are none to be ignored
  std::vector<int32_t> cu_seqlens;
};

// AdamW (Loshchilov & Hutter 2019), of step t = 1, 2, …; max_norm 0: no clipping.
struct AdamW {
  double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.95, eps = 1e-8, decay = 0.1, max_norm = 1;
  int64_t t = 1;
};

class Trainer {
 public:
  using Stop = const std::atomic<bool>*;  // ends what it is given to with ERR_ABORTED
  Trainer(const Backend& backend, Graph training, Graph evaluation, TrainerLayout layout);

  // merged: the value that weights are made of, with its adapter.
  enum class Which : uint8_t { value, gradient, mean, square, merged };
  int64_t count(int32_t parameter) const;
  // Of a row that is fed in place of an id; 0: ids.
  int64_t features() const { return training_.input_features(); }
  void read(Which which, int32_t parameter, float* to, Stop stop = nullptr) const;
  void write(Which which, int32_t parameter, const float* from, Stop stop = nullptr);
  // Where values [first, first + count) of a parameter are written before refresh().
  float* values_of(int32_t parameter, int64_t first, int64_t count);
  // Makes the weights of the parameters; after write().
  void refresh(Stop stop = nullptr);

  // The mean loss of a batch's targets; with gradients, those of every trained parameter too.
  float run(const std::vector<TrainingPart>& parts, bool gradients, const Program::Cancelled& cancelled,
            Stop stop = nullptr);
  // Of all gradients together.
  double gradient_norm(Stop stop = nullptr) const;
  // Everything of an update that can still be called off.
  void prepare_update(Stop stop = nullptr);
  // One step with the gradients at hand. `ended`: nobody will ever use this trainer again.
  void update(const AdamW& o, double norm, Stop ended = nullptr);

 private:
  struct Memory {
    float* value = nullptr;
    float* gradient = nullptr;  // where the backward program writes it; nullptr: it is gathered
    bool added = false;         // and the parts of a batch add to it
    float *sum = nullptr, *effective = nullptr, *mean = nullptr, *square = nullptr;  // made when they are first needed
  };
  void place();
  void run_part(const Program& program, const TrainingPart& part, bool first, int64_t total,
                const Program::Cancelled& cancelled, Stop stop);
  void gather(bool first, bool last, Stop stop);
  void gather_adapters(Stop stop);
  void refresh_adapters(Stop stop);
  const float* direct(int32_t parameter) const;
  const float* gradient(int32_t parameter) const;
  const float* source(int32_t parameter) const;  // what weights are made of
  bool gathers(int32_t parameter) const;
  // The values of a weight's parts, end to end.
  std::vector<float> joined(const TrainerLayout::Weight& w) const;
  // One of the last four.
  float* made(float*& values, int64_t count) { return values ? values : values = pages_.floats(count); }
  float* fixed(int32_t value) const { return training_.weights()[value].f32(); }

  mutable Program training_, evaluation_;
  const TrainerLayout layout_;
  TrainerMemory pages_;
  std::vector<Memory> memory_;
  std::vector<bool> adapted_;
  Buffer states_;
  Workspace workspace_;
  bool several_ = false;  // the last gradients are of more than one part
};

}  // namespace statespace
