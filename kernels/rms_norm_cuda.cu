// kernels/rms_norm_cuda.cu: rows in registers where they fit (rms_norm_rows_cuda.h); else a block for each row, and in
// backward for the rows whose share of d_weight is summed together.
#include "kernels/rms_norm_block.h"
#include "kernels/rms_norm_cuda.h"
#include "kernels/rms_norm_rows_cuda.h"

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
__global__ void forward_rows(NormForward<T, W> o) {
  using A = Arithmetic<T>;
  const int64_t row = blockIdx.x;
  const A sum = o.sums != nullptr ? o.sums[row] : sum_of_squares<kAligned>(o.x.at(row, 0), o.width);
  const A inv = A{1} / sqrt(sum / o.full_width + o.eps);
  if (threadIdx.x == 0) o.inv_rms[row] = inv;
  for_each_run(o.width, [&](int64_t column, int64_t count) {
    Run<T> values;
    Run<W> w;
    load_run<kAligned>(values, o.x.at(row, column), count);
    load_run<kAligned>(w, o.weight + column, count);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) values[i] = store<T>(load(values[i]) * inv * static_cast<A>(load(w[i])));
    store_run<kAligned>(o.out.at(row, column), values, count);
  });
}

// d_x = inv * (g - xhat * mean(g * xhat)) with g = d_out * weight, xhat = x * inv; pull = inv³ * mean(g * x).
// First the pulls of the block's rows, then the rows once more, a run of columns for each thread, so that its share of
// d_weight stays in registers.
template <bool kAligned, class T, class W>
__global__ void backward_rows(NormBackward<T, W> o) {
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
      if (o.adds) load_run<kAligned>(before, o.d_x.at(row, column), count);
#pragma unroll
      for (int k = 0; k < kRunLength; ++k) {
        d_w[k] += load(d[k]) * (load(value[k]) * inverses[i]);
        A result = load(d[k]) * static_cast<A>(load(w[k])) * inverses[i] - load(value[k]) * pulls[i];
        if (o.adds) result += load(before[k]);
        before[k] = store<T>(result);
      }
      store_run<kAligned>(o.d_x.at(row, column), before, count);
    }
    store_run<false>(o.partial + int64_t{blockIdx.x} * o.width + column, d_w, count);
  });
}

// This call's sum is formed first and added once, so that microbatches add up as ranks do. A block takes 32 columns;
// its warps take every 32nd row of theirs, and a tree the warps' sums.
template <class A>
__global__ void add_partial_sums(A* d_weight, const A* partial, int64_t num_blocks, int64_t width) {
  __shared__ A of_warps[kWarp][kWarp + 1];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int64_t column = int64_t{blockIdx.x} * kWarp + lane;
  A sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int64_t block = warp; block < num_blocks; block += kWarp) sum += partial[block * width + column];
  }
  of_warps[warp][lane] = sum;
  __syncthreads();
  sum = warp_reduce(of_warps[lane][warp]);  // of the block's column number `warp`
  const int64_t own = int64_t{blockIdx.x} * kWarp + warp;
  if (lane == 0 && own < width) d_weight[own] += sum;
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

// Blocks of a team that walks over the rows: fixed, so that sums over rows do not depend on the device; as many as are
// at work at once on one with 132 multiprocessors.
template <class Team>
Grid grid_of_teams(int64_t rows, int64_t width) {
  const int threads = Team::threads(width);
  const int64_t most =
      Team::kIsBlock && threads <= Team::kMostThreads / 2 ? kRmsNormMostBlocks : kRmsNormMostBlocks / 2;
  const int64_t blocks = ceil_div(rows, Team::kRowsPerBlock);
  return {dim3(static_cast<unsigned>(blocks < most ? blocks : most)), dim3(static_cast<unsigned>(threads))};
}

bool whole_runs(int64_t width) { return width % kRunLength == 0; }

}  // namespace

void row_sums_of_squares_cuda(const TensorView& sums, const TensorView& x, CudaQueue queue) {
  constexpr const char* kOp = "rms_norm.sums";
  dispatch_floating(x.dtype, [&]<class T>(T) {
    auto* const to = sums.as<Arithmetic<T>>();
    if (with_row_team<T>(x.width, [&]<class Team>(Team) {
          const bool whole = whole_runs(x.width) && is_aligned(x);
          launch_kernel(kOp, whole ? team_sums_of_squares<Team, true, T> : team_sums_of_squares<Team, false, T>,
                        grid_of_teams<Team>(x.rows, x.width), queue, to, rows_of<T>(x), x.rows,
                        static_cast<int>(x.width));
        })) {
      return;
    }
    launch_kernel(kOp, is_aligned(x) ? sums_rows<true, T> : sums_rows<false, T>, grid_of(x.rows, x.width), queue, to,
                  rows_of<T>(x), x.width);
  });
}

void rms_norm_backward_dots_cuda(const TensorView& dots, const TensorView& d_out, const TensorView& x,
                                 const TensorView& weight, CudaQueue queue) {
  constexpr const char* kOp = "rms_norm.backward_dots";
  dispatch_types(x, weight, [&]<class T, class W>(T, W) {
    auto* const to = dots.as<Arithmetic<T>>();
    const bool aligned = all_aligned(d_out, x, weight);
    if (with_row_team<T>(x.width, [&]<class Team>(Team) {
          const bool whole = whole_runs(x.width) && aligned;
          launch_kernel(kOp, whole ? team_dots<Team, true, T, W> : team_dots<Team, false, T, W>,
                        grid_of_teams<Team>(x.rows, x.width), queue, to, rows_of<T>(d_out), rows_of<T>(x),
                        weight.as<W>(), x.rows, static_cast<int>(x.width));
        })) {
      return;
    }
    launch_kernel(kOp, aligned ? dots_rows<true, T, W> : dots_rows<false, T, W>, grid_of(x.rows, x.width), queue, to,
                  rows_of<T>(d_out), rows_of<T>(x), weight.as<W>(), x.width);
  });
}

void rms_norm_forward_cuda(const TensorView& out, const TensorView& inv_rms, const TensorView& x,
                           const TensorView& weight, const TensorView& sums, int64_t full_width, double eps,
                           CudaQueue queue) {
  constexpr const char* kOp = "rms_norm.forward";
  dispatch_types(x, weight, [&]<class T, class W>(T, W) {
    using A = Arithmetic<T>;
    const NormForward<T, W> operands{.out = rows_of<T>(out),
                                     .x = rows_of<T>(x),
                                     .inv_rms = inv_rms.as<A>(),
                                     .weight = weight.as<W>(),
                                     .sums = sums.as<A>(),
                                     .rows = x.rows,
                                     .width = x.width,
                                     .full_width = static_cast<A>(full_width),
                                     .eps = static_cast<A>(eps)};
    const bool aligned = all_aligned(out, x, weight);
    if (with_row_team<T>(x.width, [&]<class Team>(Team) {
          const bool whole = whole_runs(x.width) && aligned;
          launch_kernel(kOp, whole ? team_forward<Team, true, T, W> : team_forward<Team, false, T, W>,
                        grid_of_teams<Team>(x.rows, x.width), queue, operands);
        })) {
      return;
    }
    launch_kernel(kOp, aligned ? forward_rows<true, T, W> : forward_rows<false, T, W>, grid_of(x.rows, x.width), queue,
                  operands);
  });
}

void rms_norm_backward_cuda(const RmsNormBackward& o, CudaQueue queue) {
  constexpr const char* kOp = "rms_norm.backward";
  if (o.x.rows == 0) return;
  dispatch_types(o.x, o.weight, [&]<class T, class W>(T, W) {
    using A = Arithmetic<T>;
    const NormBackward<T, W> operands{.d_x = rows_of<T>(o.d_x),
                                      .d_out = rows_of<T>(o.d_out),
                                      .x = rows_of<T>(o.x),
                                      .weight = o.weight.as<W>(),
                                      .inv_rms = o.inv_rms.as<A>(),
                                      .dots = o.dots.as<A>(),
                                      .partial = o.partial.as<A>(),
                                      .rows = o.x.rows,
                                      .width = o.x.width,
                                      .full_width = static_cast<A>(o.full_width),
                                      .adds = o.d_x_mode == Write::kAccumulates};
    const bool aligned = all_aligned(o.d_x, o.d_out, o.x, o.weight);
    Grid grid = grid_of(ceil_div(o.x.rows, kRmsNormRowBlock), o.x.width);
    if (!with_row_team<T>(o.x.width, [&]<class Team>(Team) {
          const bool whole = whole_runs(o.x.width) && aligned;
          grid = grid_of_teams<Team>(o.x.rows, o.x.width);
          launch_kernel(kOp, whole ? team_backward<Team, true, T, W> : team_backward<Team, false, T, W>, grid, queue,
                        operands);
        })) {
      launch_kernel(kOp, aligned ? backward_rows<true, T, W> : backward_rows<false, T, W>, grid, queue, operands);
    }
    const Grid columns{dim3(static_cast<unsigned>(ceil_div(o.x.width, kWarp))), dim3(kWarp, kWarp)};
    launch_kernel(kOp, add_partial_sums<A>, columns, queue, o.d_weight.as<A>(), o.partial.as<A>(),
                  int64_t{grid.blocks.x}, o.x.width);
  });
}

}  // namespace shoal
