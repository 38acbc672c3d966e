// parallel/ordered_sum_cuda.cu: one thread takes a run of eight neighbouring elements of every rank's piece, rank by
// rank: additions alone, in the order of the CPU's loop, so that the bits are the same.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "parallel/ordered_sum_cuda.h"

namespace shoal {

namespace {

template <class T>
struct Pieces {
  const T* onto = nullptr;
  const T* own = nullptr;
  const T* arrived = nullptr;
  int own_rank = 0, num_ranks = 0;
  int64_t count = 0;

  __device__ const T* of(int rank) const {
    return rank == own_rank ? own : arrived + (rank > own_rank ? rank - 1 : rank) * count;
  }
};

// `out` may be one of the pieces: a thread has read all of its elements before it writes them.
template <bool kAligned, class T>
__global__ void sum_over_ranks(T* out, Pieces<T> pieces) {
  const int64_t begin = index_of_thread() * kRunLength;
  const int64_t rest = pieces.count - begin;
  if (rest <= 0) return;
  Run<T> values = {};
  load_run<kAligned>(values, (pieces.onto != nullptr ? pieces.onto : pieces.of(0)) + begin, rest);
  Arithmetic<T> sum[kRunLength];
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) sum[i] = load(values[i]);
  for (int rank = pieces.onto != nullptr ? 0 : 1; rank < pieces.num_ranks; ++rank) {
    load_run<kAligned>(values, pieces.of(rank) + begin, rest);
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) sum[i] += load(values[i]);
  }
#pragma unroll
  for (int i = 0; i < kRunLength; ++i) values[i] = store<T>(sum[i]);
  store_run<kAligned>(out + begin, values, rest);
}

template <class T>
void sum_of(const RankSum& sum, CudaQueue queue) {
  const auto typed = [](const std::byte* x) { return reinterpret_cast<const T*>(x); };
  const Pieces<T> pieces{typed(sum.onto), typed(sum.own), typed(sum.arrived), sum.own_rank, sum.num_ranks, sum.count};
  uint64_t addresses = address_of(sum.out) | address_of(sum.onto) | address_of(sum.own);
  // Only the pieces behind the first are a piece's length further on.
  if (sum.num_ranks > 1) addresses |= address_of(sum.arrived);
  if (sum.num_ranks > 2) addresses |= static_cast<uint64_t>(sum.count) * sizeof(T);
  const auto kernel = addresses % 16 == 0 ? sum_over_ranks<true, T> : sum_over_ranks<false, T>;
  launch_kernel("ordered_sum", kernel, grid_of_threads(ceil_div(sum.count, kRunLength)), queue,
                reinterpret_cast<T*>(sum.out), pieces);
}

}  // namespace

void ordered_sum_cuda(const RankSum& sum, CudaQueue queue) {
  switch (sum.dtype) {
    case DType::kF64: return sum_of<double>(sum, queue);
    case DType::kF32: return sum_of<float>(sum, queue);
    case DType::kBF16: return sum_of<bfloat16>(sum, queue);
    case DType::kI64: return sum_of<int64_t>(sum, queue);
    case DType::kI32: return sum_of<int32_t>(sum, queue);
    case DType::kU8:
    case DType::kE4M3: return;  // refused by ordered_sum
  }
}

}  // namespace shoal
