// kernels/sort_by_expert_cuda.cu: a counting sort in three kernels: blocks count their choices, one block adds them up,
// blocks place their choices. A thread follows one expert through a block's choices in order, so nothing is atomic.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/sort_by_expert_cuda.h"

namespace shoal {

namespace {

constexpr const char* kOp = "sort_by_expert";
constexpr int kChoices = static_cast<int>(kChoicesOfBlock);

struct Sizes {
  int64_t choices = 0;
  int topk = 0, num_experts = 0, num_blocks = 0;
};

// The block's choices into shared memory; -1 behind the last.
__device__ void load_choices(int32_t (&chosen)[kChoices], const int32_t* experts, const Sizes& s) {
  for (int i = static_cast<int>(threadIdx.x); i < kChoices; i += static_cast<int>(blockDim.x)) {
    const int64_t choice = int64_t{blockIdx.x} * kChoices + i;
    chosen[i] = choice < s.choices ? experts[choice] : -1;
  }
  __syncthreads();
}

__global__ void count_choices(int32_t* block_counts, const int32_t* experts, Sizes s) {
  __shared__ int32_t chosen[kChoices];
  load_choices(chosen, experts, s);
  for (int i = static_cast<int>(threadIdx.x); i < kChoices; i += static_cast<int>(blockDim.x)) {
    const int64_t choice = int64_t{blockIdx.x} * kChoices + i;
    if (choice >= s.choices) break;
    require(chosen[i] >= 0 && chosen[i] < s.num_experts, "sort_by_expert: a token chose an expert that is not there");
    require(choice % s.topk == 0 || experts[choice - 1] < chosen[i], "sort_by_expert: a token's experts do not ascend");
  }
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += static_cast<int>(blockDim.x)) {
    int32_t count = 0;
#pragma unroll 8
    for (int i = 0; i < kChoices; ++i) count += chosen[i] == e ? 1 : 0;
    block_counts[int64_t{blockIdx.x} * s.num_experts + e] = count;
  }
}

// One block: counts become places within their expert; starts[e]: where the expert's rows begin.
__global__ void add_up_counts(int64_t* counts, int32_t* block_counts, int32_t* starts, Sizes s) {
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += static_cast<int>(blockDim.x)) {
    int32_t sum = 0;
#pragma unroll 8
    for (int block = 0; block < s.num_blocks; ++block) {
      int32_t* const of_block = block_counts + int64_t{block} * s.num_experts + e;
      const int32_t count = *of_block;
      *of_block = sum;
      sum += count;
    }
    counts[e] = sum;
    starts[e] = sum;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  int32_t start = 0;
  for (int e = 0; e < s.num_experts; ++e) {
    const int32_t count = starts[e];
    starts[e] = start;
    start += count;
  }
}

template <class A>
struct Placed {
  int32_t *source_row = nullptr, *first = nullptr, *sorted_rows = nullptr;
  A* row_weights = nullptr;
};

template <class A>
__global__ void place_choices(Placed<A> to, const int32_t* experts, const A* weights, const int32_t* block_starts,
                              const int32_t* starts, Sizes s) {
  __shared__ int32_t chosen[kChoices], row_of[kChoices];
  load_choices(chosen, experts, s);
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += static_cast<int>(blockDim.x)) {
    int32_t row = starts[e] + block_starts[int64_t{blockIdx.x} * s.num_experts + e];
    for (int i = 0; i < kChoices; ++i) {
      if (chosen[i] == e) row_of[i] = row++;
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kChoices; i += static_cast<int>(blockDim.x)) {
    const int64_t choice = int64_t{blockIdx.x} * kChoices + i;
    if (choice >= s.choices) break;
    const int64_t token = choice / s.topk;
    const int32_t row = row_of[i];
    to.sorted_rows[choice] = row;
    to.source_row[row] = static_cast<int32_t>(token);
    to.row_weights[row] = weights[choice];
    if (choice % s.topk == 0) to.first[token] = static_cast<int32_t>(choice);
    if (choice == s.choices - 1) to.first[token + 1] = static_cast<int32_t>(s.choices);
  }
}

template <class A>
void launch_place(const SortByExpertOnCuda& o, const int32_t* block_starts, const int32_t* starts, const Sizes& s,
                  const Grid& blocks, CudaQueue queue) {
  const Placed<A> to{o.source_row.as<int32_t>(), o.first.as<int32_t>(), o.sorted_rows.as<int32_t>(),
                     o.row_weights.as<A>()};
  launch_kernel(kOp, place_choices<A>, blocks, queue, to, o.experts.as<const int32_t>(), o.weights.as<const A>(),
                block_starts, starts, s);
}

}  // namespace

void sort_by_expert_cuda(const SortByExpertOnCuda& o, CudaQueue queue) {
  const Sizes s{.choices = o.experts.rows * o.experts.width,
                .topk = static_cast<int>(o.experts.width),
                .num_experts = static_cast<int>(o.counts.rows),
                .num_blocks = static_cast<int>(ceil_div(o.experts.rows * o.experts.width, kChoicesOfBlock))};
  constexpr int64_t kMostThreads = 256;
  const int64_t whole_warps = ceil_div(s.num_experts, kWarp) * kWarp;
  const dim3 threads(static_cast<unsigned>(whole_warps < kMostThreads ? whole_warps : kMostThreads));
  const Grid blocks{dim3(static_cast<unsigned>(s.num_blocks)), threads};
  auto* const block_counts = o.scratch.as<int32_t>();
  int32_t* const starts = block_counts + int64_t{s.num_blocks} * s.num_experts;
  launch_kernel(kOp, count_choices, blocks, queue, block_counts, o.experts.as<const int32_t>(), s);
  launch_kernel(kOp, add_up_counts, {dim3(1), threads}, queue, o.counts.as<int64_t>(), block_counts, starts, s);
  if (s.choices == 0) return zero_rows_cuda(o.first.data, sizeof(int32_t), sizeof(int32_t), 1, queue);
  const auto launch = o.weights.dtype == DType::kF64 ? launch_place<double> : launch_place<float>;
  launch(o, block_counts, starts, s, blocks, queue);
}

}  // namespace shoal
