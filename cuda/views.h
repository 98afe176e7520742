#pragma once
// Tensors and packed sequences as kernels see them.
#include "device.h"

namespace statespace::cuda {

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
__host__ __device__ constexpr T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
__host__ __device__ constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

// W neighbours, moved at once: four need 16-byte aligned rows.
template <int W>
struct alignas(4 * W) Vec {
  float v[W];
};
template <int W>
__device__ Vec<W> load(const global<const float>& p, int64_t i) {
  return *reinterpret_cast<const Vec<W>*>(at(p, i, W));
}
template <int W>
__device__ void store(const global<float>& p, int64_t i, const Vec<W>& x) {
  *reinterpret_cast<Vec<W>*>(at(p, i, W)) = x;
}

// Whether the rows of all these tensors may be read and written by fours. An absent one may.
template <class... Tensors>
bool by_fours(const Tensors&... tensors) {
  auto fits = [](const Tensor& t) {
    const int64_t width = t.rank == 1 ? t[0] : t.row_size();
    return !t ||
           (reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && width % 4 == 0 && (t.rank == 1 || t.row_stride % 4 == 0));
  };
  return (fits(tensors) && ...);
}

// A tensor of rows that may be a view of wider ones.
template <class T>
struct Rows {
  global<T> data = nullptr;
  int64_t stride = 0;

  Rows() = default;
  Rows(const Tensor& t) : data(global_data<T>(t)), stride(t.row_stride) {}
  // (channels), the same for every row, or (rows, channels).
  static Rows one_or_many(const Tensor& t) {
    Rows rows(t);
    if (t.rank == 1) rows.stride = 0;
    return rows;
  }
  __device__ global<T> operator[](int64_t i) const { return data + i * stride; }
  __host__ __device__ explicit operator bool() const { return bool(data); }
};

// Token ranges from cu_seqlens (one sequence over all tokens without it) and rows of the state pool from slots. The
// lengths are known on the device only: a launcher plans with the number of tokens and sequences.
struct Sequences {
  global<const int32_t> bounds = nullptr, slots = nullptr;
  int count = 1, tokens = 0;

  Sequences(const Tensor& cu_seqlens, const Tensor& slot_list, int64_t total) : tokens(int(total)) {
    bounds = global_data<const int32_t>(cu_seqlens);
    slots = global_data<const int32_t>(slot_list);
    if (cu_seqlens) count = int(cu_seqlens[0]) - 1;
  }
  __device__ int begin(int s) const { return bounds ? bounds[s] : 0; }
  __device__ int end(int s) const { return bounds ? bounds[s + 1] : tokens; }
  __device__ int slot(int s) const { return slots ? slots[s] : s; }
  // The sequence that holds a token: the first that ends behind it.
  __device__ int containing(int token) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high) / 2;
      if (end(middle) > token)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
};

// Tokens a sequence up to which a kernel walks a whole sequence by itself: it is then free to write the state at once.
constexpr int64_t kFewTokens = 16;
inline bool few_tokens(const Sequences& s) { return s.tokens <= kFewTokens * larger<int64_t>(s.count, 4); }

// Pieces of at most `size` tokens that do not cross sequences, numbered so that no table of them is needed: sequence s
// owns the numbers from floor(begin(s) / size) + s on, which its ceil(length / size) pieces never exhaust. Numbers
// without a piece are empty.
struct Pieces {
  Sequences sequences;
  int size;
  int rows;  // of a token; size counts them

  Pieces(const Sequences& s, int64_t length, int rows = 1)
      : sequences(s), size(int(larger<int64_t>(length, 1))), rows(rows) {}
  __host__ __device__ int64_t count() const { return int64_t(sequences.tokens) * rows / size + sequences.count; }
  __device__ int first(int s) const { return int(int64_t(sequences.begin(s)) * rows / size) + s; }
  __device__ int sequence(int piece) const {
    int low = 0, high = sequences.count - 1;  // the last s with first(s) <= piece
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first(middle) <= piece)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
  // The piece's tokens; none for a number without a piece.
  __device__ int begin(int piece, int s) const { return sequences.begin(s) + (piece - first(s)) * size; }
  __device__ int end(int piece, int s) const { return smaller(sequences.end(s), begin(piece, s) + size); }
};

// Tokens of a piece for a kernel that splits sequences over time: enough pieces that their blocks (`blocks` each) fill
// the device, none shorter than `shortest`; all tokens where whole sequences fill it.
inline int64_t split_over_time(const Sequences& s, int64_t blocks, int64_t shortest) {
  const int64_t wanted = ceil_div(4 * multiprocessors(), larger<int64_t>(blocks, 1));
  return wanted < 2 * s.count ? s.tokens : larger(shortest, ceil_div(s.tokens, wanted));
}

}  // namespace statespace::cuda
