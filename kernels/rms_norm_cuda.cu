// kernels/rms_norm_cuda.cu: a block for each row; in backward, for the rows whose share of d_weight is summed together.
#include "kernels/cuda_block.h"
#include "kernels/rms_norm_block.h"
#include "kernels/rms_norm_cuda.h"

namespace shoal {

namespace {

// Of the whole row, on every thread of the block.
template <bool kAligned, class T>
__device__ Arithmetic<T> sum_of_squares(const T* x, int64_t width) {
  Arithmetic<T> sum = 0;
  for_each_run(width, [&](int64_t column, int64_t count) {
    Run<T> values = {};
    load_run<kAligned>(values, x + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) sum += load(values[i]) * load(values[i]);
  });
  return block_reduce(sum);
}

// Σ d_out * weight * x.
template <bool kAligned, class T, class W>
__device__ Arithmetic<T> weighted_dot(const T* d_out, const T* x, const W* weight, int64_t width) {
  using A = Arithmetic<T>;
  A dot = 0;
  for_each_run(width, [&](int64_t column, int64_t count) {
    Run<T> d = {}, value = {};
    Run<W> w = {};
    load_run<kAligned>(d, d_out + column, count);
    load_run<kAligned>(value, x + column, count);
    load_run<kAligned>(w, weight + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) dot += load(d[i]) * static_cast<A>(load(w[i])) * load(value[i]);
  });
  return block_reduce(dot);
}

template <bool kAligned, class T>
__global__ void sums_rows(Arithmetic<T>* sums, RowsOf<T> x, int64_t width) {
  const int64_t row = blockIdx.x;
  const Arithmetic<T> sum = sum_of_squares<kAligned>(x.at(row, 0), width);
  if (threadIdx.x == 0) sums[row] = sum;
}

template <bool kAligned, class T, class W>
__global__ void dots_rows(Arithmetic<T>* dots, RowsOf<T> d_out, RowsOf<T> x, const W* weight, int64_t width) {
  const int64_t row = blockIdx.x;
  const Arithmetic<T> dot = weighted_dot<kAligned>(d_out.at(row, 0), x.at(row, 0), weight, width);
  if (threadIdx.x == 0) dots[row] = dot;
}

template <bool kAligned, class T, class W>
__global__ void forward_rows(RowsOf<T> out, Arithmetic<T>* inv_rms, RowsOf<T> x, const W* weight,
                             const Arithmetic<T>* sums, int64_t width, Arithmetic<T> full_width, Arithmetic<T> eps) {
  using A = Arithmetic<T>;
  const int64_t row = blockIdx.x;
  const A sum = sums != nullptr ? sums[row] : sum_of_squares<kAligned>(x.at(row, 0), width);
  const A inv = A{1} / sqrt(sum / full_width + eps);
  if (threadIdx.x == 0) inv_rms[row] = inv;
  for_each_run(width, [&](int64_t column, int64_t count) {
    Run<T> values;
    Run<W> w;
    load_run<kAligned>(values, x.at(row, column), count);
    load_run<kAligned>(w, weight + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) values[i] = store<T>(load(values[i]) * inv * static_cast<A>(load(w[i])));
    store_run<kAligned>(out.at(row, column), values, count);
  });
}

template <class T, class W>
struct Backward {
  using A = Arithmetic<T>;
  RowsOf<T> d_x, d_out, x;
  const W* weight = nullptr;
  const A* inv_rms = nullptr;
  const A* dots = nullptr;
  A* partial = nullptr;
  int64_t rows = 0, width = 0;
  A full_width = 0;
};

// d_x = inv * (g - xhat * mean(g * xhat)) with g = d_out * weight, xhat = x * inv; pull = inv³ * mean(g * x).
// First the pulls of the block's rows, then the rows once more, a run of columns for each thread, so that its share of
// d_weight stays in registers.
template <bool kAligned, Write mode, class T, class W>
__global__ void backward_rows(Backward<T, W> o) {
  using A = Arithmetic<T>;
  __shared__ A inverses[kRmsNormRowBlock], pulls[kRmsNormRowBlock];
  const int64_t first = int64_t{blockIdx.x} * kRmsNormRowBlock;
  const int64_t rows = o.rows - first < kRmsNormRowBlock ? o.rows - first : kRmsNormRowBlock;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t row = first + i;
    const A dot =
        o.dots != nullptr ? o.dots[row] : weighted_dot<kAligned>(o.d_out.at(row, 0), o.x.at(row, 0), o.weight, o.width);
    if (threadIdx.x == 0) {
      const A inv = o.inv_rms[row];
      inverses[i] = inv;
      pulls[i] = inv * inv * inv * dot / o.full_width;
    }
  }
  __syncthreads();
  for_each_run(o.width, [&](int64_t column, int64_t count) {
    Run<W> w = {};
    Run<A> d_w = {};
    load_run<kAligned>(w, o.weight + column, count);
    for (int64_t i = 0; i < rows; ++i) {
      const int64_t row = first + i;
      Run<T> d = {}, value = {}, before = {};
      load_run<kAligned>(d, o.d_out.at(row, column), count);
      load_run<kAligned>(value, o.x.at(row, column), count);
      if constexpr (mode == Write::kAccumulates) load_run<kAligned>(before, o.d_x.at(row, column), count);
#pragma unroll
      for (int k = 0; k < kRunLength; ++k) {
        d_w[k] += load(d[k]) * (load(value[k]) * inverses[i]);
        A result = load(d[k]) * static_cast<A>(load(w[k])) * inverses[i] - load(value[k]) * pulls[i];
        if constexpr (mode == Write::kAccumulates) result += load(before[k]);
        before[k] = store<T>(result);
      }
      store_run<kAligned>(o.d_x.at(row, column), before, count);
    }
    store_run<false>(o.partial + int64_t{blockIdx.x} * o.width + column, d_w, count);
  });
}

// This call's sum is formed first and added once, so that microbatches add up as ranks do.
template <class A>
__global__ void add_partial_sums(A* d_weight, const A* partial, int64_t num_blocks, int64_t width) {
  const int64_t column = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (column >= width) return;
  A sum = partial[column];
  for (int64_t block = 1; block < num_blocks; ++block) sum += partial[block * width + column];
  d_weight[column] += sum;
}

// Calls f(T{}, W{}) with the storage types of x and weight.
template <class F>
void dispatch_types(const TensorView& x, const TensorView& weight, F&& f) {
  dispatch_floating(x.dtype, [&]<class T>(T t) {
    if (weight.dtype == x.dtype) {
      f(t, T{});
    } else {
      f(t, float{});
    }
  });
}

Grid grid_of(int64_t blocks, int64_t width) {
  return {dim3(static_cast<unsigned>(blocks)), dim3(static_cast<unsigned>(threads_for_row(width)))};
}

}  // namespace

void row_sums_of_squares_cuda(const TensorView& sums, const TensorView& x, CudaQueue queue) {
  dispatch_floating(x.dtype, [&]<class T>(T) {
    launch_kernel("rms_norm.sums", is_aligned(x) ? sums_rows<true, T> : sums_rows<false, T>, grid_of(x.rows, x.width),
                  queue, sums.as<Arithmetic<T>>(), rows_of<T>(x), x.width);
  });
}

void rms_norm_backward_dots_cuda(const TensorView& dots, const TensorView& d_out, const TensorView& x,
                                 const TensorView& weight, CudaQueue queue) {
  dispatch_types(x, weight, [&]<class T, class W>(T, W) {
    const auto kernel = all_aligned(d_out, x, weight) ? dots_rows<true, T, W> : dots_rows<false, T, W>;
    launch_kernel("rms_norm.backward_dots", kernel, grid_of(x.rows, x.width), queue, dots.as<Arithmetic<T>>(),
                  rows_of<T>(d_out), rows_of<T>(x), weight.as<W>(), x.width);
  });
}

void rms_norm_forward_cuda(const TensorView& out, const TensorView& inv_rms, const TensorView& x,
                           const TensorView& weight, const TensorView& sums, int64_t full_width, double eps,
                           CudaQueue queue) {
  dispatch_types(x, weight, [&]<class T, class W>(T, W) {
    using A = Arithmetic<T>;
    const auto kernel = all_aligned(out, x, weight) ? forward_rows<true, T, W> : forward_rows<false, T, W>;
    launch_kernel("rms_norm.forward", kernel, grid_of(x.rows, x.width), queue, rows_of<T>(out), inv_rms.as<A>(),
                  rows_of<T>(x), weight.as<W>(), sums.as<A>(), x.width, static_cast<A>(full_width),
                  static_cast<A>(eps));
  });
}

void rms_norm_backward_cuda(const RmsNormBackward& o, CudaQueue queue) {
  if (o.x.rows == 0) return;
  dispatch_types(o.x, o.weight, [&]<class T, class W>(T, W) {
    using A = Arithmetic<T>;
    const Backward<T, W> operands{.d_x = rows_of<T>(o.d_x),
                                  .d_out = rows_of<T>(o.d_out),
                                  .x = rows_of<T>(o.x),
                                  .weight = o.weight.as<W>(),
                                  .inv_rms = o.inv_rms.as<A>(),
                                  .dots = o.dots.as<A>(),
                                  .partial = o.partial.as<A>(),
                                  .rows = o.x.rows,
                                  .width = o.x.width,
                                  .full_width = static_cast<A>(o.full_width)};
    const bool adds = o.d_x_mode == Write::kAccumulates;
    auto kernel =
        adds ? backward_rows<false, Write::kAccumulates, T, W> : backward_rows<false, Write::kOverwrites, T, W>;
    if (all_aligned(o.d_x, o.d_out, o.x, o.weight)) {
      kernel = adds ? backward_rows<true, Write::kAccumulates, T, W> : backward_rows<true, Write::kOverwrites, T, W>;
    }
    launch_kernel("rms_norm.backward", kernel, grid_of(o.partial.rows, o.x.width), queue, operands);
    constexpr int kThreads = 256;
    const Grid columns{dim3(static_cast<unsigned>(ceil_div(o.x.width, kThreads))), dim3(kThreads)};
    launch_kernel("rms_norm.backward", add_partial_sums<A>, columns, queue, o.d_weight.as<A>(), o.partial.as<A>(),
                  o.partial.rows, o.x.width);
  });
}

}  // namespace shoal
