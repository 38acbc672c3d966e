// kernels/permute_rows_cuda.cu: rows are moved in the widest accesses they allow; sums of rows stay in registers.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/permute_rows_cuda.h"

namespace shoal {

namespace {

template <class Unit>
__global__ void gather_units(Unit* out, const Unit* x, const int32_t* index, int64_t rows, int64_t x_rows,
                             int64_t units) {
  const int64_t row = row_of_thread();
  if (row >= rows) return;
  const int64_t source = index[row];
  require(source >= 0 && source < x_rows, "permute_rows: indices lie within the rows of x");
  for (int64_t i = threadIdx.x; i < units; i += blockDim.x) out[row * units + i] = x[source * units + i];
}

template <class T>
struct Sum {
  T* out = nullptr;
  const T* base = nullptr;
  const T* x = nullptr;
  const int32_t* first = nullptr;
  const int32_t* groups = nullptr;
  const int32_t* index = nullptr;
  int64_t rows = 0, x_rows = 0, num_groups = 0, num_listed = 0, width = 0;
};

struct List {
  int32_t begin = 0, end = 0;
};
__device__ __forceinline__ List list_of(const int32_t* first, int64_t i, int64_t num_listed) {
  const List list{first[i], first[i + 1]};
  require(list.begin >= 0 && list.begin <= list.end && list.end <= num_listed,
          "permute_rows: lists ascend and end with what they list");
  return list;
}

// Adds the listed rows' runs that begin at `column`, in the order of the list. Four indices, then four runs at a time
// are on their way.
constexpr int kAtOnce = 4;
template <bool kAligned, class T>
__device__ __forceinline__ void add_listed(Run<Arithmetic<T>>& sum, const Sum<T>& o, List list, int64_t column) {
  for (int32_t begin = list.begin; begin < list.end; begin += kAtOnce) {
    int32_t sources[kAtOnce];
    bool are_rows = true;
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) sources[k] = o.index[begin + k < list.end ? begin + k : begin];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) are_rows = are_rows && sources[k] >= 0 && sources[k] < o.x_rows;
    require(are_rows, "permute_rows: indices lie within the rows of x");
    Run<T> values[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      values[k] = {};
      if (begin + k < list.end) {
        load_run<kAligned>(values[k], o.x + sources[k] * o.width + column, o.width - column);
      }
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      if (begin + k >= list.end) break;
#pragma unroll
      for (int i = 0; i < kRunLength; ++i) sum[i] += load(values[k][i]);
    }
  }
}

// A thread takes runs of columns of one row. `out` may be `base`: a run is read before it is written.
template <bool kAligned, bool kNested, class T>
__global__ void sum_runs(Sum<T> o) {
  using A = Arithmetic<T>;
  const int64_t row = row_of_thread();
  if (row >= o.rows) return;
  const List list = list_of(o.first, row, kNested ? o.num_groups : o.num_listed);
  const int64_t stride = int64_t{blockDim.x} * kRunLength;
  for (int64_t column = int64_t{threadIdx.x} * kRunLength; column < o.width; column += stride) {
    Run<A> sum = {};
    if constexpr (kNested) {
      for (int32_t group = list.begin; group < list.end; ++group) {
        Run<A> group_sum = {};
        add_listed<kAligned>(group_sum, o, list_of(o.groups, group, o.num_listed), column);
#pragma unroll
        for (int i = 0; i < kRunLength; ++i) sum[i] += group_sum[i];
      }
    } else {
      add_listed<kAligned>(sum, o, list, column);
    }
    const int64_t at = row * o.width + column, count = o.width - column;
    Run<T> result = {};
    if (o.base != nullptr) load_run<kAligned>(result, o.base + at, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      result[i] = store<T>(o.base != nullptr ? load(result[i]) + sum[i] : sum[i]);
    }
    store_run<kAligned>(o.out + at, result, count);
  }
}

}  // namespace

void gather_rows_cuda(const TensorView& out, const TensorView& x, const TensorView& index, CudaQueue queue) {
  const int64_t row_bytes = out.width * size_of(out.dtype);
  dispatch_unit(address_of(out.data) | address_of(x.data) | static_cast<uint64_t>(row_bytes), [&]<class Unit>(Unit) {
    const int64_t units = row_bytes / static_cast<int64_t>(sizeof(Unit));
    launch_kernel("permute_rows.gather", gather_units<Unit>, grid_of_rows(out.rows, units), queue, out.as<Unit>(),
                  x.as<Unit>(), index.as<int32_t>(), out.rows, x.rows, units);
  });
}

void sum_rows_cuda(const SummedRows& o, CudaQueue queue) {
  const bool nested = o.groups.defined();
  dispatch_floating(o.x.dtype, [&]<class T>(T) {
    const Sum<T> operands{.out = o.out.as<T>(),
                          .base = o.base.as<T>(),
                          .x = o.x.as<T>(),
                          .first = o.first.as<int32_t>(),
                          .groups = o.groups.as<int32_t>(),
                          .index = o.index.as<int32_t>(),
                          .rows = o.out.rows,
                          .x_rows = o.x.rows,
                          .num_groups = o.groups.rows - 1,
                          .num_listed = o.index.rows,
                          .width = o.out.width};
    auto kernel = nested ? sum_runs<false, true, T> : sum_runs<false, false, T>;
    if (all_aligned(o.out, o.base, o.x)) kernel = nested ? sum_runs<true, true, T> : sum_runs<true, false, T>;
    launch_kernel(nested ? "permute_rows.sum_nested" : "permute_rows.sum", kernel,
                  grid_of_rows(o.out.rows, ceil_div(o.out.width, kRunLength)), queue, operands);
  });
}

}  // namespace shoal
