// kernels/cross_entropy_cuda.cu: a block for each row; its maximum and its sum come from one read (online).
//
// Where a gradient follows, a thread keeps what it has read in shared memory, as much as lets two blocks share a
// multiprocessor, and reads the rest of its row once more, from the end: the second-level cache has the end still.
// Threads keep a maximum of their own and the sum that belongs to it, brought to the row's maximum at the end. Every
// eight exponentials are added up in the arithmetic type, the eights in f64.
#include "kernels/cross_entropy_cuda.h"
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/packed_math_cuda.h"

namespace shoal {

namespace {

constexpr double kLowest = -1.7976931348623157e308;
template <class A>
constexpr A kLowestOf = static_cast<A>(-3.4028234663852886e38);  // not -Inf: -Inf minus -Inf would be NaN
template <>
constexpr double kLowestOf<double> = kLowest;

// Σ exp(logit - max) is `sum`.
template <class A>
struct RowSum {
  A max = kLowestOf<A>;
  double sum = 0;
};

// exp of what is at most 0. In f32 by the GPU's table: within 2^-22 near 0, where a sum's large terms are.
__device__ __forceinline__ float exp_of_difference(float x) { return table_exp2(x * 1.44269504088896341f); }
__device__ __forceinline__ double exp_of_difference(double x) { return exp(x); }

constexpr int kMostThreads = 512;  // of a block

// A thread's first runs of a row in shared memory, in halves of 16 bytes side by side with those of its neighbours.
constexpr int kMostKeptRuns = 7;
template <class A>
struct KeptRuns {
  static constexpr bool kKeeps = sizeof(A) == sizeof(float);
  uint4* memory = nullptr;
  int count = 0;

  static __host__ int count_for(int64_t width, int threads) {
    const int64_t runs = ceil_div(width, int64_t{threads} * kRunLength);
    return !kKeeps ? 0 : runs < kMostKeptRuns ? static_cast<int>(runs) : kMostKeptRuns;
  }
  static __host__ size_t bytes(int count, int threads) {
    return sizeof(Run<float>) * static_cast<size_t>(count * threads);
  }

  __device__ uint4* half(int run, unsigned i) const { return memory + (2 * run + i) * blockDim.x + threadIdx.x; }
  __device__ __forceinline__ void keep(int run, const Run<A>& x) const {
    if constexpr (kKeeps) {
      if (run >= count) return;
      *half(run, 0) = reinterpret_cast<const uint4*>(&x)[0];
      *half(run, 1) = reinterpret_cast<const uint4*>(&x)[1];
    }
  }
  __device__ __forceinline__ void take(Run<A>& x, int run) const {
    if constexpr (kKeeps) {
      reinterpret_cast<uint4*>(&x)[0] = *half(run, 0);
      reinterpret_cast<uint4*>(&x)[1] = *half(run, 1);
    }
  }
};

// Of the whole row, on every thread of the block.
template <bool kAligned, class A>
__device__ RowSum<A> sum_row(const A* logits, int64_t width, const KeptRuns<A>& kept) {
  RowSum<A> mine;
  const int64_t first = int64_t{threadIdx.x} * kRunLength, stride = int64_t{blockDim.x} * kRunLength;
  Run<A> next = {};  // on its way while one is worked on
  if (first < width) load_run<kAligned>(next, logits + first, width - first);
  int run = 0;
  for (int64_t column = first; column < width; column += stride, ++run) {
    const int64_t count = width - column;
    const Run<A> x = next;
    next = {};
    if (stride < count) load_run<kAligned>(next, logits + column + stride, count - stride);
    kept.keep(run, x);
    A max = mine.max;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) max = i < count && x[i] > max ? x[i] : max;
    if (max > mine.max) {
      mine.sum *= exp(static_cast<double>(mine.max - max));
      mine.max = max;
    }
    A sum = 0;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) sum += i < count ? exp_of_difference(x[i] - max) : A{0};
    mine.sum += static_cast<double>(sum);
  }
  RowSum<A> whole;
  whole.max = block_reduce<Max>(mine.max);
  whole.sum = block_reduce(mine.sum * exp(static_cast<double>(mine.max - whole.max)));
  return whole;
}

// A run of scale * (softmax - onehot), with `factor` = scale / sum, rounded once.
template <class D, class A>
__device__ __forceinline__ Run<D> gradient_run(const Run<A>& x, int64_t column, int64_t target, A max, A factor,
                                               A scale) {
  Run<A> values;
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) values[i] = exp_of_difference(x[i] - max) * factor;
  // One run of a row has the target.
  if (target >= column && target < column + kRunLength) {
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) values[i] = column + i == target ? values[i] - scale : values[i];
  }
  if constexpr (std::is_same_v<A, float> && std::is_same_v<D, bfloat16>) {
    return std::bit_cast<Run<D>>(round_run<D>(values));
  } else {
    Run<D> gradients;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) gradients[i] = store<D>(values[i]);
    return gradients;
  }
}

// The whole row's. d may replace x.
template <bool kAligned, class A, class D>
__device__ void gradient_row(D* d, const A* x, int64_t width, int64_t target, A max, A factor, A scale,
                             const KeptRuns<A>& kept) {
  const int64_t first = int64_t{threadIdx.x} * kRunLength, stride = int64_t{blockDim.x} * kRunLength;
  if (first >= width) return;
  const auto store_gradient = [&](const Run<A>& values, int64_t column) {
    store_run<kAligned>(d + column, gradient_run<D>(values, column, target, max, factor, scale), width - column);
  };
  int run = static_cast<int>((width - first - 1) / stride);  // the thread's last
#pragma unroll 2
  for (; run >= kept.count; --run) {
    const int64_t column = first + run * stride;
    Run<A> values = {};
    load_run<kAligned>(values, x + column, width - column);
    store_gradient(values, column);
  }
  for (; run >= 0; --run) {
    Run<A> values;
    kept.take(values, run);
    store_gradient(values, first + run * stride);
  }
}

template <bool kAligned, class D>
__device__ void zero_row(D* d, int64_t width) {
  for_each_run(width, [&](int64_t column, int64_t count) { store_run<kAligned>(d + column, Run<D>{}, count); });
}

template <class A, class D>
struct Rows {
  A* losses = nullptr;
  D* d_logits = nullptr;  // null: the losses alone
  const A* logits = nullptr;
  const int32_t* targets = nullptr;
  int64_t width = 0;
  double scale = 0;
  int kept_runs = 0;  // of a thread, in shared memory
};

template <bool kAligned, class A, class D>
__global__ void __launch_bounds__(kMostThreads, 2) visit_rows(Rows<A, D> o) {
  SHOAL_DYNAMIC_SHARED(uint4, memory);
  const KeptRuns<A> kept{memory, o.kept_runs};
  const int64_t row = blockIdx.x, target = o.targets[row];
  require(target >= -1 && target < o.width, "cross_entropy: targets are -1 or lie within the vocabulary");
  const A* const x = o.logits + row * o.width;
  D* const d = o.d_logits == nullptr ? nullptr : o.d_logits + row * o.width;
  if (target < 0) {
    if (threadIdx.x == 0) o.losses[row] = 0;
    if (d != nullptr) zero_row<kAligned>(d, o.width);
    return;
  }
  const A target_logit = x[target];  // before d replaces it
  const RowSum<A> whole = sum_row<kAligned>(x, o.width, kept);
  if (threadIdx.x == 0) {
    o.losses[row] = static_cast<A>(log(whole.sum) + static_cast<double>(whole.max - target_logit));
  }
  if (d == nullptr) return;
  gradient_row<kAligned>(d, x, o.width, target, whole.max, static_cast<A>(o.scale / whole.sum), static_cast<A>(o.scale),
                         kept);
}

// The maximum, the sum and the target's logit of a row: what a rank says about its shard, in this order.
constexpr int64_t kStatistics = 3;

template <bool kAligned, class A>
__global__ void take_statistics(double* statistics, const A* logits, const int32_t* targets, int64_t width,
                                int64_t first_id, int64_t vocab) {
  const int64_t row = blockIdx.x, target = targets[row], column = target - first_id;
  require(target >= -1 && target < vocab, "cross_entropy: targets are -1 or lie within the vocabulary");
  const A* const x = logits + row * width;
  const RowSum<A> whole = sum_row<kAligned>(x, width, KeptRuns<A>{});
  if (threadIdx.x != 0) return;
  double* const to = statistics + row * kStatistics;
  to[0] = width > 0 ? static_cast<double>(whole.max) : kLowest;
  to[1] = whole.sum;
  to[2] = target >= 0 && column >= 0 && column < width ? static_cast<double>(x[column]) : 0;
}

// One row's statistics of the whole vocabulary, from the ranks' in rank order.
struct WholeRow {
  double max, sum, target_logit;
};
__device__ WholeRow whole_row(const double* statistics, int64_t ranks, int64_t rank_stride) {
  WholeRow whole{kLowest, 0, 0};
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const double max = statistics[rank * rank_stride];
    whole.max = max > whole.max ? max : whole.max;
  }
  for (int64_t rank = 0; rank < ranks; ++rank) {
    const double* const part = statistics + rank * rank_stride;
    whole.sum += part[1] * exp(part[0] - whole.max);
    whole.target_logit += part[2];
  }
  return whole;
}

template <bool kAligned, class A, class D>
__global__ void visit_split_rows(Rows<A, D> o, const double* statistics, int64_t ranks, int64_t first_id,
                                 int64_t vocab) {
  __shared__ WholeRow shared;
  const int64_t row = blockIdx.x, target = o.targets[row];
  require(target >= -1 && target < vocab, "cross_entropy: targets are -1 or lie within the vocabulary");
  D* const d = o.d_logits == nullptr ? nullptr : o.d_logits + row * o.width;
  if (target < 0) {
    if (threadIdx.x == 0) o.losses[row] = 0;
    if (d != nullptr) zero_row<kAligned>(d, o.width);
    return;
  }
  if (threadIdx.x == 0) {
    shared = whole_row(statistics + row * kStatistics, ranks, int64_t{gridDim.x} * kStatistics);
    o.losses[row] = static_cast<A>(log(shared.sum) + (shared.max - shared.target_logit));
  }
  if (d == nullptr) return;
  __syncthreads();
  gradient_row<kAligned>(d, o.logits + row * o.width, o.width, target - first_id, static_cast<A>(shared.max),
                         static_cast<A>(o.scale / shared.sum), static_cast<A>(o.scale), KeptRuns<A>{});
}

// Calls f(A{}, D{}) with the types of the logits and of their gradient.
template <class F>
void dispatch_types(const TensorView& logits, const TensorView& d_logits, F&& f) {
  dispatch_floating(d_logits.defined() ? d_logits.dtype : logits.dtype, [&]<class D>(D d) {
    if (logits.dtype == DType::kF64) {
      f(double{}, d);
    } else {
      f(float{}, d);
    }
  });
}

template <class A, class D>
Rows<A, D> rows_of(const TensorView& losses, const TensorView& d_logits, const TensorView& logits,
                   const TensorView& targets, double scale) {
  return {.losses = losses.as<A>(),
          .d_logits = d_logits.as<D>(),
          .logits = logits.as<A>(),
          .targets = targets.as<int32_t>(),
          .width = logits.width,
          .scale = scale};
}

Grid grid_of(const TensorView& logits) {
  return {dim3(static_cast<unsigned>(logits.rows)),
          dim3(static_cast<unsigned>(threads_for_row(logits.width, kMostThreads)))};
}

}  // namespace

void cross_entropy_cuda(const TensorView& losses, const TensorView& d_logits, const TensorView& logits,
                        const TensorView& targets, double scale, CudaQueue queue) {
  dispatch_types(logits, d_logits, [&]<class A, class D>(A, D) {
    const auto kernel = all_aligned(d_logits, logits) ? visit_rows<true, A, D> : visit_rows<false, A, D>;
    Grid grid = grid_of(logits);
    Rows<A, D> rows = rows_of<A, D>(losses, d_logits, logits, targets, scale);
    if (d_logits.defined()) {
      const int threads = static_cast<int>(grid.threads.x);
      rows.kept_runs = KeptRuns<A>::count_for(logits.width, threads);
      grid.shared_bytes = KeptRuns<A>::bytes(rows.kept_runs, threads);
    }
    launch_kernel("cross_entropy", kernel, grid, queue, rows);
  });
}

void cross_entropy_statistics_cuda(const TensorView& statistics, const TensorView& logits, const TensorView& targets,
                                   int64_t first_id, int64_t vocab, CudaQueue queue) {
  const auto launch = [&]<class A>(A) {
    const auto kernel = is_aligned(logits) ? take_statistics<true, A> : take_statistics<false, A>;
    launch_kernel("cross_entropy.statistics", kernel, grid_of(logits), queue, statistics.as<double>(), logits.as<A>(),
                  targets.as<int32_t>(), logits.width, first_id, vocab);
  };
  if (logits.dtype == DType::kF64) {
    launch(double{});
  } else {
    launch(float{});
  }
}

void cross_entropy_from_statistics_cuda(const CrossEntropyFromStatistics& o, CudaQueue queue) {
  dispatch_types(o.logits, o.d_logits, [&]<class A, class D>(A, D) {
    Grid grid = grid_of(o.logits);
    if (!o.d_logits.defined()) grid.threads = dim3(kWarp);
    // The view's rows are ranks.
    const auto kernel =
        all_aligned(o.d_logits, o.logits) ? visit_split_rows<true, A, D> : visit_split_rows<false, A, D>;
    launch_kernel("cross_entropy.from_statistics", kernel, grid, queue,
                  rows_of<A, D>(o.losses, o.d_logits, o.logits, o.targets, o.scale), o.statistics.as<double>(),
                  o.statistics.rows, o.first_id, o.vocab);
  });
}

}  // namespace shoal
