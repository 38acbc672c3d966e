// kernels/elementwise_cuda.cu: one thread takes a run of eight neighbouring elements; rows side by side in the grid.
#include <type_traits>

#include "kernels/cuda_block.h"
#include "kernels/elementwise_cuda.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;

// Dense views become one row, so that short rows fill blocks too.
struct Rows {
  int64_t rows = 0, width = 0;
};

template <class... Views>
Rows rows_of(const TensorView& out, const Views&... others) {
  const bool dense = ((out.row_stride == out.width) && ... && (others.row_stride == out.width));
  return dense ? Rows{1, out.rows * out.width} : Rows{out.rows, out.width};
}

// At most 65,535 rows of blocks at once: each takes every 65,535th row.
Grid grid_of(const Rows& rows) {
  const int64_t blocks = ceil_div(ceil_div(rows.width, kRunLength), kThreads);
  constexpr int64_t kMostRows = 65535;
  const int64_t y = rows.rows < kMostRows ? rows.rows : kMostRows;
  return {dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(y)), dim3(kThreads)};
}

// Calls f(row, first column, how many) for each of this thread's runs.
template <class F>
__device__ __forceinline__ void for_each_run(const Rows& rows, F&& f) {
  const int64_t column = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kRunLength;
  if (column >= rows.width) return;
  for (int64_t row = blockIdx.y; row < rows.rows; row += gridDim.y) f(row, column, rows.width - column);
}

template <bool kAligned, class Out, class X>
__global__ void cast_runs(Out* out, int64_t out_stride, const X* x, int64_t x_stride, Rows rows) {
  for_each_run(rows, [&](int64_t row, int64_t column, int64_t count) {
    Run<X> from;
    Run<Out> to;
    load_run<kAligned>(from, x + row * x_stride + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) to[i] = store<Out>(load(from[i]));
    store_run<kAligned>(out + row * out_stride + column, to, count);
  });
}

template <bool kAligned, class Out, class L, class R>
__global__ void add_runs(Out* out, const L* a, const R* b, Rows rows) {
  using A = std::common_type_t<Arithmetic<Out>, Arithmetic<L>, Arithmetic<R>>;
  for_each_run(rows, [&](int64_t, int64_t column, int64_t count) {
    Run<L> left;
    Run<R> right;
    Run<Out> to;
    load_run<kAligned>(left, a + column, count);
    load_run<kAligned>(right, b + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      to[i] = store<Out>(static_cast<A>(load(left[i])) + static_cast<A>(load(right[i])));
    }
    store_run<kAligned>(out + column, to, count);
  });
}

template <bool kAligned, class T>
__global__ void scale_runs(T* x, Arithmetic<T> factor, Rows rows) {
  for_each_run(rows, [&](int64_t, int64_t column, int64_t count) {
    Run<T> values;
    load_run<kAligned>(values, x + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) values[i] = store<T>(load(values[i]) * factor);
    store_run<kAligned>(x + column, values, count);
  });
}

}  // namespace

void cast_cuda(const TensorView& out, const TensorView& x, CudaQueue queue) {
  const Rows rows = rows_of(out, x);
  dispatch_floating(out.dtype, [&]<class Out>(Out) {
    dispatch_floating(x.dtype, [&]<class X>(X) {
      const auto kernel = all_aligned(out, x) ? cast_runs<true, Out, X> : cast_runs<false, Out, X>;
      launch_kernel("cast", kernel, grid_of(rows), queue, out.as<Out>(), out.row_stride, x.as<X>(), x.row_stride, rows);
    });
  });
}

void add_cuda(const TensorView& out, const TensorView& a, const TensorView& b, CudaQueue queue) {
  const Rows rows = rows_of(out, a, b);
  dispatch_floating(out.dtype, [&]<class Out>(Out) {
    dispatch_floating(a.dtype, [&]<class L>(L) {
      dispatch_floating(b.dtype, [&]<class R>(R) {
        const auto kernel = all_aligned(out, a, b) ? add_runs<true, Out, L, R> : add_runs<false, Out, L, R>;
        launch_kernel("add", kernel, grid_of(rows), queue, out.as<Out>(), a.as<L>(), b.as<R>(), rows);
      });
    });
  });
}

void scale_cuda(const TensorView& x, double factor, CudaQueue queue) {
  const Rows rows = rows_of(x);
  dispatch_floating(x.dtype, [&]<class T>(T) {
    const auto kernel = all_aligned(x) ? scale_runs<true, T> : scale_runs<false, T>;
    launch_kernel("scale", kernel, grid_of(rows), queue, x.as<T>(), static_cast<Arithmetic<T>>(factor), rows);
  });
}

void fill_zero_cuda(const TensorView& x, CudaQueue queue) {
  const int64_t element = size_of(x.dtype);
  zero_rows_cuda(x.data, x.row_stride * element, x.width * element, x.rows, queue);
}

}  // namespace shoal
