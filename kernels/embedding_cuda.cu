// kernels/embedding_cuda.cu: rows by token id; for gradients rows are sorted by token, so that equal ones meet.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/embedding_cuda.h"

namespace shoal {

namespace {

template <class Unit>
__global__ void look_up(Unit* out, const Unit* table, const int32_t* tokens, int64_t rows, int64_t table_rows,
                        TableIds ids, int64_t units) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  const int64_t token = tokens[row], entry = token - ids.first_id;
  require(token >= 0 && token < ids.vocab, "embedding: token ids lie within the vocabulary");
  const bool here = entry >= 0 && entry < table_rows;
  for (int64_t i = threadIdx.x; i < units; i += blockDim.x) {
    out[row * units + i] = here ? table[entry * units + i] : Unit{};
  }
}

// A stable sort by digits of 8 bits, the lowest first. Every tile counts its keys by digit; the counts, digit by digit
// and tile by tile, add up to where a tile's keys of a digit go; there they are put in their order.
constexpr int kDigits = 256;
constexpr int kTile = 256;  // keys, a thread for each
static_assert(kDigits == kTile, "a thread of a tile looks after one digit, too");

struct Keys {
  int32_t* keys = nullptr;
  int32_t* rows = nullptr;
};

__device__ __forceinline__ int digit_of(int32_t key, int shift) { return (key >> shift) % kDigits; }

// Entries of the table, or behind its last one for tokens of other shards.
__global__ void make_keys(Keys to, const int32_t* tokens, int64_t rows, int64_t table_rows, TableIds ids) {
  const int64_t row = index_of_thread();
  if (row >= rows) return;
  const int64_t token = tokens[row], entry = token - ids.first_id;
  require(token >= 0 && token < ids.vocab, "embedding: token ids lie within the vocabulary");
  to.keys[row] = static_cast<int32_t>(entry >= 0 && entry < table_rows ? entry : table_rows);
  to.rows[row] = static_cast<int32_t>(row);
}

__global__ void count_digits(int32_t* counts, const int32_t* keys, int64_t num_keys, int shift) {
  __shared__ int of_digit[kDigits];
  of_digit[threadIdx.x] = 0;
  __syncthreads();
  const int64_t i = index_of_thread();
  if (i < num_keys) atomicAdd(&of_digit[digit_of(keys[i], shift)], 1);
  __syncthreads();
  counts[int64_t{threadIdx.x} * gridDim.x + blockIdx.x] = of_digit[threadIdx.x];
}

// counts[i] becomes the sum of those before it. One block, a stretch for each thread.
__global__ void add_up_counts(int32_t* counts, int64_t num_counts) {
  __shared__ int32_t of_stretch[1024];
  const int64_t length = (num_counts + blockDim.x - 1) / blockDim.x;
  const int64_t begin = threadIdx.x * length, end = begin + length < num_counts ? begin + length : num_counts;
  int32_t sum = 0;
  for (int64_t i = begin; i < end; ++i) sum += counts[i];
  of_stretch[threadIdx.x] = sum;
  __syncthreads();
  for (unsigned distance = 1; distance < blockDim.x; distance *= 2) {
    const int32_t left = threadIdx.x >= distance ? of_stretch[threadIdx.x - distance] : 0;
    __syncthreads();
    of_stretch[threadIdx.x] += left;
    __syncthreads();
  }
  int32_t before = of_stretch[threadIdx.x] - sum;
  for (int64_t i = begin; i < end; ++i) {
    const int32_t count = counts[i];
    counts[i] = before;
    before += count;
  }
}

__global__ void put_in_order(Keys to, Keys from, const int32_t* counts, int64_t num_keys, int shift) {
  __shared__ int digits[kTile];
  const int64_t i = index_of_thread();
  const int32_t key = i < num_keys ? from.keys[i] : 0;
  const int digit = digit_of(key, shift);
  digits[threadIdx.x] = digit;
  __syncthreads();
  if (i >= num_keys) return;
  int32_t at = counts[int64_t{digit} * gridDim.x + blockIdx.x];
  for (unsigned other = 0; other < threadIdx.x; ++other) at += digits[other] == digit;
  to.keys[at] = key;
  to.rows[at] = from.rows[i];
}

// Sorted keys from a run of equal ones on: how many there are. Most runs are short: steps grow, then halve.
__device__ int64_t length_of_run(const int32_t* keys, int64_t num_keys) {
  const int32_t key = keys[0];
  int64_t equal = 1, step = 1;
  while (equal + step <= num_keys && keys[equal + step - 1] == key) {
    equal += step;
    step *= 2;
  }
  for (; step > 0; step /= 2) {
    if (equal + step <= num_keys && keys[equal + step - 1] == key) equal += step;
  }
  return equal;
}

// d_table[key] += the sum of the key's rows of d_out, ascending: formed first and added once, so that microbatches add
// up as ranks do. A block for each sorted key; the first of its equals does the work.
template <bool kAligned, class T>
__global__ void add_key_rows(Arithmetic<T>* d_table, const T* d_out, Keys sorted, int64_t num_keys, int64_t table_rows,
                             int64_t hidden) {
  using A = Arithmetic<T>;
  const int64_t first = blockIdx.x;
  const int32_t key = sorted.keys[first];
  if (key == table_rows || (first > 0 && sorted.keys[first - 1] == key)) return;
  const int64_t column = (int64_t{blockIdx.y} * blockDim.x + threadIdx.x) * kRunLength, count = hidden - column;
  if (count <= 0) return;
  const int64_t end = first + length_of_run(sorted.keys + first, num_keys - first);
  Run<A> sum = {};
#pragma unroll 4
  for (int64_t i = first; i < end; ++i) {
    Run<T> values = {};
    load_run<kAligned>(values, d_out + sorted.rows[i] * hidden + column, count);
#pragma unroll
    for (int k = 0; k < kRunLength; ++k) sum[k] = i == first ? load(values[k]) : sum[k] + load(values[k]);
  }
  Run<A> into = {};
  A* const to = d_table + key * hidden + column;
  load_run<kAligned>(into, to, count);
#pragma unroll
  for (int k = 0; k < kRunLength; ++k) into[k] += sum[k];
  store_run<kAligned>(to, into, count);
}

constexpr const char* kBackward = "embedding.backward";

// Keys in ascending order, rows ascending within a key. Keys are in [0, most].
Keys sort_keys(Keys keys, Keys other, int32_t* counts, int64_t num_keys, int64_t most, CudaQueue queue) {
  const int64_t tiles = ceil_div(num_keys, kTile), num_counts = tiles * kDigits;
  const Grid grid{dim3(static_cast<unsigned>(tiles)), dim3(kTile)};
  for (int shift = 0; (most >> shift) > 0; shift += 8) {
    launch_kernel(kBackward, count_digits, grid, queue, counts, keys.keys, num_keys, shift);
    launch_kernel(kBackward, add_up_counts, Grid{dim3(1), dim3(num_counts > 4096 ? 1024 : 256)}, queue, counts,
                  num_counts);
    launch_kernel(kBackward, put_in_order, grid, queue, other, keys, counts, num_keys, shift);
    const Keys sorted = other;
    other = keys;
    keys = sorted;
  }
  return keys;
}

}  // namespace

void embedding_forward_cuda(const TensorView& out, const TensorView& table, const TensorView& tokens, TableIds ids,
                            CudaQueue queue) {
  const int64_t row_bytes = out.width * size_of(out.dtype);
  dispatch_unit(
      address_of(out.data) | address_of(table.data) | static_cast<uint64_t>(row_bytes), [&]<class Unit>(Unit) {
        const int64_t units = row_bytes / static_cast<int64_t>(sizeof(Unit));
        launch_kernel("embedding.forward", look_up<Unit>, grid_of_rows(out.rows, units), queue, out.as<Unit>(),
                      table.as<Unit>(), tokens.as<int32_t>(), out.rows, table.rows, ids, units);
      });
}

int64_t embedding_sort_scratch(int64_t rows) { return 4 * rows + ceil_div(rows, kTile) * kDigits; }

void embedding_backward_cuda(const TensorView& d_table, const TensorView& scratch, const TensorView& d_out,
                             const TensorView& tokens, TableIds ids, CudaQueue queue) {
  const int64_t rows = d_out.rows, hidden = d_out.width;
  if (rows == 0) return;
  int32_t* const memory = scratch.as<int32_t>();
  const Keys unsorted{memory, memory + rows}, other{memory + 2 * rows, memory + 3 * rows};
  launch_kernel(kBackward, make_keys, grid_of_threads(rows), queue, unsorted, tokens.as<int32_t>(), rows, d_table.rows,
                ids);
  const Keys sorted = sort_keys(unsorted, other, memory + 4 * rows, rows, d_table.rows, queue);
  constexpr int kThreads = 128;
  const int threads = threads_for_row(hidden, kThreads);
  const Grid grid{dim3(static_cast<unsigned>(rows), static_cast<unsigned>(ceil_div(hidden, threads * kRunLength))),
                  dim3(static_cast<unsigned>(threads))};
  dispatch_floating(d_out.dtype, [&]<class T>(T) {
    launch_kernel(kBackward, all_aligned(d_table, d_out) ? add_key_rows<true, T> : add_key_rows<false, T>, grid, queue,
                  d_table.as<Arithmetic<T>>(), d_out.as<T>(), sorted, rows, d_table.rows, hidden);
  });
}

}  // namespace shoal
