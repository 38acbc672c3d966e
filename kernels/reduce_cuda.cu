// kernels/reduce_cuda.cu: a block for each chunk, every thread's elements in order, then a tree of fixed shape.
#include "kernels/cuda_block.h"
#include "kernels/reduce_chunk.h"
#include "kernels/reduce_cuda.h"

namespace shoal {

namespace {

enum class Term { kValue, kSquare };

constexpr int kThreads = 256;
static_assert(kSumChunk % (kThreads * kRunLength) == 0, "a thread takes whole runs of a chunk");

template <bool kAligned, Term term, class T>
__global__ void sum_chunks(double* partial, const T* x, int64_t numel) {
  const int64_t begin = blockIdx.x * kSumChunk;
  double sum = 0;
#pragma unroll
  for (int64_t run = 0; run < kSumChunk; run += kThreads * kRunLength) {
    const int64_t at = begin + run + int64_t{threadIdx.x} * kRunLength;
    Run<T> values = {};
    load_run<kAligned>(values, x + at, numel - at);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      const double value = values[i];
      sum += term == Term::kSquare ? value * value : value;
    }
  }
  sum = block_reduce(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// One block.
__global__ void sum_partial(double* total, const double* partial, int64_t count) {
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partial[i];
  sum = block_reduce(sum);
  if (threadIdx.x == 0) *total = sum;
}

template <Term term>
void sum_all_chunks(const char* op, const TensorView& partial, const TensorView& x, CudaQueue queue) {
  const Grid grid{dim3(static_cast<unsigned>(partial.rows)), dim3(kThreads)};
  const auto launch = [&]<class T>(T) {
    const auto kernel = is_aligned(x) ? sum_chunks<true, term, T> : sum_chunks<false, term, T>;
    launch_kernel(op, kernel, grid, queue, partial.as<double>(), x.as<T>(), x.rows);
  };
  if (x.dtype == DType::kF64) {
    launch(double{});
  } else {
    launch(float{});
  }
}

}  // namespace

void sum_of_squares_cuda(const TensorView& partial, const TensorView& x, CudaQueue queue) {
  sum_all_chunks<Term::kSquare>("reduce.sum_of_squares", partial, x, queue);
}

void sum_cuda(const TensorView& total, const TensorView& partial, const TensorView& x, CudaQueue queue) {
  sum_all_chunks<Term::kValue>("reduce.sum", partial, x, queue);
  constexpr int kMostThreads = 1024;
  launch_kernel("reduce.sum", sum_partial, Grid{dim3(1), dim3(kMostThreads)}, queue, total.as<double>(),
                partial.as<double>(), partial.rows);
}

}  // namespace shoal
