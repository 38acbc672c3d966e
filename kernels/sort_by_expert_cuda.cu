// kernels/sort_by_expert_cuda.cu: a counting sort in three kernels: blocks count their choices, a warp for each expert
// adds them up, blocks place their choices. Atomics are on integers alone, and no place depends on their order.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/sort_by_expert_cuda.h"

namespace shoal {

namespace {

constexpr const char* kOp = "sort_by_expert";
constexpr int kChoices = static_cast<int>(kChoicesOfBlock);
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;

struct Sizes {
  int choices = 0, topk = 0, num_experts = 0, num_blocks = 0;
};

__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ __forceinline__ int warp_of_thread() { return static_cast<int>(threadIdx.x) / kWarp; }

// Of the lanes up to the calling one.
__device__ __forceinline__ int32_t warp_inclusive_sum(int32_t value) {
#pragma unroll
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int32_t before = __shfl_up_sync(0xFFFFFFFFu, value, distance);
    if (lane_of_thread() >= distance) value += before;
  }
  return value;
}

// block_counts is [num_experts, num_blocks].
__global__ void count_choices(int32_t* block_counts, const int32_t* experts, Sizes s) {
  SHOAL_DYNAMIC_SHARED(int32_t, counts);
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += kThreads) counts[e] = 0;
  __syncthreads();
  const int block = static_cast<int>(blockIdx.x);
#pragma unroll
  for (int i = 0; i < kChoices; i += kThreads) {
    const int choice = block * kChoices + i + static_cast<int>(threadIdx.x);
    if (choice < 0 || choice >= s.choices) continue;  // below 0: the last block's may lie behind 2^31
    const int32_t expert = experts[choice];
    require(expert >= 0 && expert < s.num_experts, "sort_by_expert: a token chose an expert that is not there");
    require(choice % s.topk == 0 || experts[choice - 1] < expert, "sort_by_expert: a token's experts do not ascend");
    atomicAdd(counts + expert, 1);
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += kThreads) {
    block_counts[int64_t{e} * s.num_blocks + block] = counts[e];
  }
}

// A warp for each expert: its blocks' counts become what the blocks before them counted. A lane takes a few neighbours.
__global__ void add_up_counts(int64_t* counts, int32_t* block_counts, Sizes s) {
  const int e = static_cast<int>(blockIdx.x) * kWarps + warp_of_thread();
  if (e >= s.num_experts) return;
  int32_t* const of_expert = block_counts + int64_t{e} * s.num_blocks;
  int32_t sum = 0;
  for (int begin = lane_of_thread() * kRunLength; begin - lane_of_thread() * kRunLength < s.num_blocks;
       begin += kWarp * kRunLength) {
    int32_t count[kRunLength], mine = 0;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) count[i] = begin + i < s.num_blocks ? of_expert[begin + i] : 0;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) mine += count[i];
    const int32_t with_mine = warp_inclusive_sum(mine);
    int32_t before = sum + with_mine - mine;
#pragma unroll
    for (int i = 0; i < kRunLength; ++i) {
      if (begin + i < s.num_blocks) of_expert[begin + i] = before;
      before += count[i];
    }
    sum += __shfl_sync(0xFFFFFFFFu, with_mine, kWarp - 1);
  }
  if (lane_of_thread() == 0) counts[e] = sum;
}

// One warp: counts become the sums of those before them.
__device__ void add_up_before(int32_t* counts, int count) {
  int32_t sum = 0;
  for (int begin = 0; begin < count; begin += kWarp) {
    const int i = begin + lane_of_thread();
    const int32_t mine = i < count ? counts[i] : 0;
    const int32_t with_mine = warp_inclusive_sum(mine);
    if (i < count) counts[i] = sum + with_mine - mine;
    sum += __shfl_sync(0xFFFFFFFFu, with_mine, kWarp - 1);
  }
}

template <class A>
struct Placed {
  int32_t *source_row = nullptr, *first = nullptr, *sorted_rows = nullptr;
  A* row_weights = nullptr;
};

// A warp takes neighbouring choices, 32 at a time in their order: of those for one expert, each learns how many come
// before it. Shared memory: where experts begin, and each warp's counts, which become where its choices begin.
template <class A>
__global__ void place_choices(Placed<A> to, const int32_t* experts, const A* weights, const int32_t* block_starts,
                              const int64_t* counts, Sizes s) {
  SHOAL_DYNAMIC_SHARED(int32_t, starts);
  int32_t* const of_warps = starts + s.num_experts;
  int32_t* const of_warp = of_warps + warp_of_thread() * s.num_experts;
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += kThreads) {
    starts[e] = static_cast<int32_t>(counts[e]);
    for (int warp = 0; warp < kWarps; ++warp) of_warps[warp * s.num_experts + e] = 0;
  }
  __syncthreads();
  constexpr int kRounds = kChoices / kThreads;
  const int first = static_cast<int>(blockIdx.x) * kChoices + warp_of_thread() * (kRounds * kWarp) + lane_of_thread();
  int32_t expert[kRounds], rank[kRounds];
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const int choice = first + r * kWarp;
    expert[r] = choice >= 0 && choice < s.choices ? experts[choice] : -1;
  }
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    const unsigned same = __match_any_sync(0xFFFFFFFFu, expert[r]);
    const int before = __popc(same & ((1u << lane_of_thread()) - 1u));
    const int32_t begin = expert[r] >= 0 ? of_warp[expert[r]] : 0;
    __syncwarp();
    if (expert[r] >= 0 && before == 0) of_warp[expert[r]] = begin + __popc(same);
    __syncwarp();
    rank[r] = begin + before;
  }
  __syncthreads();
  if (warp_of_thread() == 0) add_up_before(starts, s.num_experts);
  for (int e = static_cast<int>(threadIdx.x); e < s.num_experts; e += kThreads) {
    int32_t sum = block_starts[int64_t{e} * s.num_blocks + blockIdx.x];
    for (int warp = 0; warp < kWarps; ++warp) {
      int32_t& count = of_warps[warp * s.num_experts + e];
      const int32_t begin = sum;
      sum += count;
      count = begin;
    }
  }
  __syncthreads();
#pragma unroll
  for (int r = 0; r < kRounds; ++r) {
    if (expert[r] < 0) break;
    const int choice = first + r * kWarp, token = choice / s.topk;
    const int32_t row = starts[expert[r]] + of_warp[expert[r]] + rank[r];
    to.sorted_rows[choice] = row;
    to.source_row[row] = token;
    to.row_weights[row] = weights[choice];
    if (choice == token * s.topk) to.first[token] = choice;
    if (choice == s.choices - 1) to.first[token + 1] = s.choices;
  }
}

template <class A>
void launch_place(const SortByExpertOnCuda& o, const int32_t* block_starts, const Sizes& s, const Grid& blocks,
                  CudaQueue queue) {
  const Placed<A> to{o.source_row.as<int32_t>(), o.first.as<int32_t>(), o.sorted_rows.as<int32_t>(),
                     o.row_weights.as<A>()};
  launch_kernel(kOp, place_choices<A>, blocks, queue, to, o.experts.as<const int32_t>(), o.weights.as<const A>(),
                block_starts, o.counts.as<const int64_t>(), s);
}

}  // namespace

void sort_by_expert_cuda(const SortByExpertOnCuda& o, CudaQueue queue) {
  const int64_t choices = o.experts.rows * o.experts.width;
  const Sizes s{.choices = static_cast<int>(choices),
                .topk = static_cast<int>(o.experts.width),
                .num_experts = static_cast<int>(o.counts.rows),
                .num_blocks = static_cast<int>(ceil_div(choices, kChoicesOfBlock))};
  Grid blocks{dim3(static_cast<unsigned>(s.num_blocks)), dim3(kThreads)};
  const size_t bytes_per_copy = sizeof(int32_t) * static_cast<size_t>(s.num_experts);
  auto* const block_counts = o.scratch.as<int32_t>();
  blocks.shared_bytes = bytes_per_copy;
  launch_kernel(kOp, count_choices, blocks, queue, block_counts, o.experts.as<const int32_t>(), s);
  const Grid warps{dim3(static_cast<unsigned>(ceil_div(s.num_experts, kWarps))), dim3(kThreads)};
  launch_kernel(kOp, add_up_counts, warps, queue, o.counts.as<int64_t>(), block_counts, s);
  if (s.choices == 0) return zero_rows_cuda(o.first.data, sizeof(int32_t), sizeof(int32_t), 1, queue);
  blocks.shared_bytes = bytes_per_copy * (kWarps + 1);
  const auto launch = o.weights.dtype == DType::kF64 ? launch_place<double> : launch_place<float>;
  launch(o, block_counts, s, blocks, queue);
}

}  // namespace shoal
