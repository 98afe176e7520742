// Weights on their way into a model: converted to the type they are held in, then laid out for the backend.
#include <algorithm>
#include <cstring>

#include "core/blocks.h"
#include "core/denormals.h"
#include "core/error.h"
#include "core/halves.h"
#include "core/quantise.h"
#include "core/upper_halves.h"
#include "program/model.h"

namespace statespace {
namespace {

constexpr int64_t kPiece = 1 << 16;  // elements converted at a time by one thread; whole blocks

bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

// Writes values [begin, end) of a weight, value(i) each; quantised ones by whole blocks.
template <class Fn>
void write_values(void* to, DType type, int64_t begin, int64_t end, Fn&& value) {
  if (is_float(type)) {
    for (int64_t i = begin; i < end; ++i) write_float(to, type, i, value(i));
    return;
  }
  float block[256];
  const int64_t n = dtype_block(type);
  for (int64_t i = begin; i < end; i += n) {
    for (int64_t j = 0; j < n; ++j) block[j] = value(i + j);
    encode_blocks(type, block, n, nullptr, static_cast<uint8_t*>(to) + dtype_bytes(type, i));
  }
}

// Values [begin, end) of `from`, whole blocks of both types, to the same places behind `to_index`.
void convert_some(const void* from, DType from_type, int64_t begin, int64_t end, void* to, DType to_type,
                  int64_t to_index) {
  clear_upper_halves();
  const auto* bytes = static_cast<const uint8_t*>(from) + dtype_bytes(from_type, begin);
  if (from_type == to_type) {
    std::memcpy(static_cast<uint8_t*>(to) + dtype_bytes(to_type, to_index + begin), bytes,
                dtype_bytes(to_type, end - begin));
    return;
  }
  if (is_quantised(from_type)) {
    const DenormalGuard exact(DenormalGuard::keep);
    std::vector<float> values(end - begin);
    decode_blocks(from_type, bytes, end - begin, values.data());
    if (to_type == DType::q4_0 && is_within_q4_0(from_type))
      return encode_within_q4_0(values.data(), end - begin,
                                static_cast<uint8_t*>(to) + dtype_bytes(to_type, to_index + begin));
    write_values(to, to_type, to_index + begin, to_index + end,
                 [&](int64_t i) { return values[i - to_index - begin]; });
    return;
  }
  write_values(to, to_type, to_index + begin, to_index + end,
               [&](int64_t i) { return read_float(from, from_type, i - to_index); });
}

void convert(const void* from, DType from_type, int64_t count, void* to, DType to_type, int64_t to_index,
             const std::atomic<bool>* stop) {
  ThreadPool::global().parallel_for((count + kPiece - 1) / kPiece,
                                    [&](int64_t piece, int) {
                                      convert_some(from, from_type, piece * kPiece,
                                                   std::min(count, (piece + 1) * kPiece), to, to_type, to_index);
                                    },
                                    stop);
}

// splitmix64: the i-th value of a seed's sequence without the ones before it.
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ x >> 27) * 0x94d049bb133111ebull;
  return x ^ x >> 31;
}

}  // namespace

Tensor Model::rows_tensor(int32_t value) const {
  const Graph& g = program.graph();
  if (value < 0 || value >= int64_t(g.values.size()) || g.values[value].kind != ValueKind::weight)
    throw Error(Code::kArgument, "weights: value " + std::to_string(value) + " is no weight");
  const Value& v = g.values[value];
  if (v.dtype == DType::i32) throw Error(Code::kDType, "weights: cannot be held as i32");
  if (!is_float(v.dtype) && (v.rank == 0 || v.dims[v.rank - 1] % dtype_block(v.dtype) || !program.packable(value)))
    throw Error(Code::kDType, std::string("weights: ") + dtype_name(v.dtype) +
                                  " holds matrices that only products and embeddings read, of a multiple of " +
                                  std::to_string(dtype_block(v.dtype)) + " columns");
  if (!program.backend().host_memory && !is_held_on_device(v.dtype))
    throw Error(Code::kDType, std::string("weights: ") + dtype_name(v.dtype) + " is multiplied on the CPU only");
  Tensor t;
  t.dtype = v.dtype;
  t.rank = v.rank;
  std::copy(v.dims, v.dims + v.rank, t.shape);
  t.row_stride = t.row_size();
  return t;
}

// Where a weight of these rows is held, and how.
Tensor Model::place(int32_t value, const Tensor& host) {
  const Backend& backend = program.backend();
  Tensor held = host;
  int64_t bytes = host.bytes();
  if (program.packable(value) && backend.packed) held = backend.packed(host, &bytes);
  own();
  std::shared_ptr<void>& place = held_->memory[value];
  const bool again = bool(place);
  if (!again || place.use_count() > 1) place = held_->fresh.allocate(bytes);
  held.data = place.get();
  if (!again) held_->bytes += bytes;
  return held;
}

void Model::store(int32_t value, const Tensor& host, const std::atomic<bool>* stop) {
  const Backend& backend = program.backend();
  const auto device = lock_device(backend);
  const Tensor held = place(value, host);
  if (held.layout == Layout::packed) {
    Scratch scratch;
    Context cx{ThreadPool::global(), scratch};
    if (!program.weights()[value]) cx.stop = stop;  // one that is there stays whole
    backend.pack(host, held, cx);
  } else {
    backend.upload(held.data, host.data, host.bytes());
  }
  if (const char* failure = backend.finish()) throw Error(Code::kDevice, std::string("weights: ") + failure);
  program.weights()[value] = held;
}

bool Model::stream_weight(int32_t value, DType dtype, int64_t count, const ReadRows& read,
                          const std::atomic<bool>* stop) {
  const Backend& backend = program.backend();
  const Tensor rows = rows_tensor(value);
  if (!backend.host_memory || dtype == DType::i32 || count != rows.size() || count == 0 || rows.rank < 2) return false;
  if (rows[rows.rank - 1] % dtype_block(dtype)) return false;
  const bool converts = dtype != rows.dtype;
  const Tensor held = place(value, rows);
  const bool packed = held.layout == Layout::packed;
  // As matrices of `out` rows, in steps of whole panels.
  const int64_t in = rows[rows.rank - 1], all = rows.size() / in, out = packed ? rows[rows.rank - 2] : all;
  const int64_t matrices = all / out, row_bytes = dtype_bytes(rows.dtype, in);
  const auto bytes_of = [&](Tensor matrix, int64_t height) {
    matrix.rank = 2, matrix.shape[0] = height, matrix.shape[1] = matrix.row_stride = in;
    int64_t bytes = matrix.bytes();
    if (packed && height) backend.packed(matrix, &bytes);
    return height ? bytes : 0;
  };
  constexpr int64_t kStepBytes = 1 << 20, kWholePanels = 256, kConverted = 64;
  // Small where codes are searched for, so that all threads end at about the same time.
  const int64_t step =
      converts ? kConverted : std::max<int64_t>(1, kStepBytes / row_bytes / kWholePanels) * kWholePanels;
  const int64_t source_bytes = converts ? step * dtype_bytes(dtype, in) : 0;
  const int64_t source_room = (source_bytes + 63) / 64 * 64;
  const int64_t steps = (out + step - 1) / step;
  Scratch scratch;
  const Context cx{ThreadPool::global(), scratch, TileUnit::none, false, stop};
  cx.parallel_stretches(matrices * steps, [&](int64_t i, int worker) {
    const int64_t matrix = i / steps, first = i % steps * step, height = std::min(step, out - first);
    char* to = static_cast<char*>(held.data) + matrix * bytes_of(rows, out) + bytes_of(rows, first);
    char* local = packed || converts ? cx.local<char>(worker, source_room + (packed ? step * row_bytes : 0)) : nullptr;
    char* from = packed ? local + source_room : to;
    read(matrix * out + first, height, converts ? local : from);
    if (converts) convert_some(local, dtype, 0, height * in, from, rows.dtype, 0);
    if (!packed) return;
    Tensor some = rows, there = held;
    for (Tensor* t : {&some, &there}) t->rank = 2, t->shape[0] = height, t->shape[1] = t->row_stride = in;
    some.data = from, there.data = to;
    Scratch none;
    Context alone{ThreadPool::global(), none};
    backend.pack(some, there, alone);
  });
  program.weights()[value] = held;
  return true;
}

void Model::set_weight(int32_t value, const std::vector<Source>& sources, const std::atomic<bool>* stop) {
  Tensor t = rows_tensor(value);
  int64_t count = 0;
  for (const Source& s : sources) {
    if (s.dtype == DType::i32 || s.count % dtype_block(s.dtype) || count % dtype_block(t.dtype))
      throw Error(Code::kDType, std::string("weights: a part of ") + std::to_string(s.count) + " values of " +
                                    dtype_name(s.dtype) + " cannot be read into " + dtype_name(t.dtype));
    count += s.count;
  }
  if (count != t.size())
    throw Error(Code::kShape,
                "weights: expected " + std::to_string(t.size()) + " values, received " + std::to_string(count));
  const bool in_place = sources.size() == 1 && sources[0].dtype == t.dtype &&
                        reinterpret_cast<uintptr_t>(sources[0].data) % (t.dtype == DType::f32 ? 4 : 2) == 0;
  Buffer rows;
  if (in_place) {
    t.data = const_cast<void*>(sources[0].data);
  } else {
    t.data = rows.reserve(t.bytes());
    int64_t at = 0;
    for (const Source& s : sources) {
      convert(s.data, s.dtype, s.count, t.data, t.dtype, at, stop);
      at += s.count;
    }
  }
  store(value, t, stop);
}

// A packed matrix is private to its backend, which gives its rows as embeddings.
void Model::read_weight(int32_t value, float* to, const std::atomic<bool>* stop) {
  const Backend& backend = program.backend();
  const auto device = lock_device(backend);
  const Tensor& held = program.weights()[value];
  Tensor rows = rows_tensor(value);
  if (!held) throw Error(Code::kState, "weights: value " + std::to_string(value) + " has not been set");
  if (held.layout == Layout::rows && is_float(held.dtype)) {
    const void* from = held.data;
    Buffer raw;
    if (!backend.host_memory) {
      from = raw.reserve(std::max<int64_t>(rows.bytes(), 1));
      backend.download(raw.data(), held.data, rows.bytes());
      if (const char* failure = backend.finish()) throw Error(Code::kDevice, std::string("weights: ") + failure);
    }
    convert(from, rows.dtype, rows.size(), to, DType::f32, 0, stop);
    return;
  }
  const int64_t in = rows[rows.rank - 1], out = rows[rows.rank - 2], matrices = rows.size() / (in * out);
  Tensor one = held;
  one.rank = 2, one.shape[0] = out, one.shape[1] = in, one.row_stride = in;
  Tensor plain = one;
  plain.layout = Layout::rows, plain.dtype = rows.dtype;
  int64_t bytes = plain.bytes();
  if (held.layout == Layout::packed) backend.packed(plain, &bytes);
  std::vector<int32_t> order(out);
  for (int64_t i = 0; i < out; ++i) order[i] = int32_t(i);
  const int64_t step = std::clamp<int64_t>((1 << 20) / std::max<int64_t>(in, 1), 1, std::max<int64_t>(out, 1));
  BackendBuffer ids(backend), values(backend);
  backend.upload(ids.reserve(out * 4), order.data(), out * 4);
  values.reserve(step * in * 4);
  Scratch scratch;
  Context cx{ThreadPool::global(), scratch};
  cx.stop = stop;
  for (int64_t i = 0, first = 0; i < matrices; first + step < out ? first += step : (first = 0, ++i)) {
    throw_if_stopped(stop);
    const int64_t rows_here = std::min(step, out - first);
    Embedding op;
    op.weight = one;
    op.weight.data = static_cast<char*>(held.data) + i * bytes;
    op.ids.data = static_cast<int32_t*>(ids.data()) + first, op.ids.dtype = DType::i32;
    op.ids.rank = 1, op.ids.shape[0] = rows_here, op.ids.row_stride = 1;
    op.y.data = values.data(), op.y.rank = 2, op.y.shape[0] = rows_here, op.y.shape[1] = op.y.row_stride = in;
    backend.run[op_id<Embedding>()](&op, cx);
    if (const char* failure = backend.finish()) throw Error(Code::kDevice, std::string("weights: ") + failure);
    backend.download(to + (i * out + first) * in, values.data(), rows_here * in * 4);
  }
}

void Model::set_random(int32_t value, float bound, uint64_t seed, const std::atomic<bool>* stop) {
  Tensor t = rows_tensor(value);
  Buffer rows(t.bytes());
  t.data = rows.data();
  const uint64_t stream = mix(seed ^ mix(uint64_t(value)));
  const int64_t count = t.size();
  ThreadPool::global().parallel_for(
      (count + kPiece - 1) / kPiece,
      [&](int64_t piece, int) {
        write_values(t.data, t.dtype, piece * kPiece, std::min(count, (piece + 1) * kPiece),
                     [&](int64_t i) { return bound * (float(mix(stream + i) >> 40) * 0x1p-23f - 1); });
      },
      stop);
  store(value, t, stop);
}

}  // namespace statespace
