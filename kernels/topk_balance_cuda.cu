// kernels/topk_balance_cuda.cu: the balance loss: choices counted by integer atomics, then a warp for each token.
#include "kernels/cuda_block.h"
#include "kernels/cuda_rows.h"
#include "kernels/elementwise_cuda.h"
#include "kernels/topk_cuda.h"
#include "kernels/topk_warp.h"

namespace shoal {

namespace {

// Neighbouring runs of tokens, as a kernel parameter; more of them take more launches.
constexpr int kRunsAtOnce = 128;
struct Runs {
  int count = 0;
  int64_t first = 0;                 // the number of the first of them
  int64_t offsets[kRunsAtOnce + 1];  // run i holds the tokens [offsets[i], offsets[i + 1])
  int64_t tokens[kRunsAtOnce];       // on all ranks

  __device__ int64_t begin() const { return offsets[0]; }
  __device__ int64_t end() const { return offsets[count]; }
  // The run that holds a token: the last that begins at or before it.
  __device__ int run_of(int64_t token) const {
    int low = 0, high = count - 1;
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (offsets[middle] <= token) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }
};

// Calls f(runs, how many tokens they hold). `run_tokens` may be null.
template <class F>
void for_each_runs(const std::vector<int64_t>& offsets, const std::vector<int64_t>* run_tokens, F&& f) {
  const size_t num_runs = offsets.size() - 1;
  for (size_t first = 0; first < num_runs; first += kRunsAtOnce) {
    Runs runs{};
    runs.first = static_cast<int64_t>(first);
    runs.count = static_cast<int>(num_runs - first < kRunsAtOnce ? num_runs - first : kRunsAtOnce);
    for (int i = 0; i <= runs.count; ++i) runs.offsets[i] = offsets[first + static_cast<size_t>(i)];
    if (run_tokens != nullptr) {
      for (int i = 0; i < runs.count; ++i) runs.tokens[i] = (*run_tokens)[first + static_cast<size_t>(i)];
    }
    f(runs, runs.offsets[runs.count] - runs.offsets[0]);
  }
}

using Count = unsigned long long;  // an i64 that atomicAdd knows

// Blocks of y count a run's choices, first in shared memory: few counters would keep atomics waiting for each other.
constexpr int kChoicesPerBlock = 2048;
__global__ void count_choices(Count* counts, const int32_t* experts, const __grid_constant__ Runs runs, int topk,
                              int num_experts) {
  SHOAL_DYNAMIC_SHARED(int32_t, of_block);
  const int64_t run = blockIdx.y, end = runs.offsets[run + 1] * topk;
  const int64_t begin = runs.offsets[run] * topk + int64_t{blockIdx.x} * kChoicesPerBlock;
  if (begin >= end) return;
  const int count = end - begin < kChoicesPerBlock ? static_cast<int>(end - begin) : kChoicesPerBlock;
  for (int e = static_cast<int>(threadIdx.x); e < num_experts; e += static_cast<int>(blockDim.x)) of_block[e] = 0;
  __syncthreads();
  const int32_t* const from = experts + begin;
  const int place = static_cast<int>(begin % topk);  // among its token's, of the block's first choice
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < count; i += static_cast<int>(blockDim.x)) {
    const int32_t expert = from[i];
    require(expert >= 0 && expert < num_experts && ((place + i) % topk == 0 || from[i - 1] < expert),
            "router: expert ids ascend within the model's experts");
    atomicAdd(of_block + expert, 1);
  }
  __syncthreads();
  Count* const of_run = counts + (runs.first + run) * num_experts;
  for (int e = static_cast<int>(threadIdx.x); e < num_experts; e += static_cast<int>(blockDim.x)) {
    if (of_block[e] != 0) atomicAdd(of_run + e, static_cast<Count>(of_block[e]));
  }
}

template <class A>
struct Loss {
  A* d_scores = nullptr;
  double* token_losses = nullptr;
  const A* scores = nullptr;
  const int64_t* counts = nullptr;
  int num_experts = 0, topk = 0;
  double coefficient = 0;
};

// One token: Σ_e f_e q_e with q_e = s_e / D, D = Σ s + tiny, and its gradient: dq_i/ds_e = δ_ie / D - s_i / D².
template <class A>
__global__ void loss_of_tokens(Loss<A> o, const __grid_constant__ Runs runs) {
  const int64_t token = runs.begin() + token_of_warp();
  if (token >= runs.end()) return;
  const int run = runs.run_of(token);
  const int64_t* const count = o.counts + (runs.first + run) * o.num_experts;
  const A* const s = o.scores + token * o.num_experts;
  A* const d = o.d_scores + token * o.num_experts;
  const int64_t choices = o.topk * runs.tokens[run];
  const double balanced = static_cast<double>(choices) / static_cast<double>(o.num_experts);
  const double factor = o.coefficient / static_cast<double>(runs.tokens[run]);
  const auto load_factor = [&](int e) { return static_cast<A>(static_cast<double>(count[e]) / balanced); };
  A sum = 0, dot = 0;
  long long counted = 0;
#pragma unroll 4
  for (int e = lane_of_thread(); e < o.num_experts; e += kWarp) {
    counted += count[e];
    sum += s[e];
    dot += load_factor(e) * s[e];
  }
  require(warp_reduce(counted) == choices, "router: a run has topk choices for each of its tokens: were they summed?");
  const A divisor = warp_reduce(sum) + static_cast<A>(kTinySum);
  const A mean = warp_reduce(dot) / divisor, step = static_cast<A>(factor) / divisor;
  for (int e = lane_of_thread(); e < o.num_experts; e += kWarp) d[e] += step * (load_factor(e) - mean);
  if (lane_of_thread() == 0) o.token_losses[token] = factor * static_cast<double>(mean);
}

// One block.
template <class A>
__global__ void add_token_losses(A* loss, const double* token_losses, int64_t tokens) {
  double sum = 0;
#pragma unroll 8
  for (int64_t i = threadIdx.x; i < tokens; i += blockDim.x) sum += token_losses[i];
  sum = block_reduce(sum);
  if (threadIdx.x == 0) *loss += static_cast<A>(sum);
}

}  // namespace

void balance_counts_cuda(const TensorView& counts, const TensorView& experts, const std::vector<int64_t>& offsets,
                         const RouterShape& shape, CudaQueue queue) {
  fill_zero_cuda(counts, queue);
  for_each_runs(offsets, nullptr, [&](const Runs& runs, int64_t) {
    int64_t most = 0;
    for (int i = 0; i < runs.count; ++i) {
      const int64_t tokens = runs.offsets[i + 1] - runs.offsets[i];
      most = tokens > most ? tokens : most;
    }
    constexpr int kThreads = 256;
    const auto blocks = static_cast<unsigned>(ceil_div(most * shape.topk, kChoicesPerBlock));
    const Grid grid{dim3(blocks, static_cast<unsigned>(runs.count)), dim3(kThreads),
                    sizeof(int32_t) * static_cast<size_t>(shape.num_experts)};
    launch_kernel("router.balance_counts", count_choices, grid, queue, counts.as<Count>(), experts.as<int32_t>(), runs,
                  static_cast<int>(shape.topk), static_cast<int>(shape.num_experts));
  });
}

void balance_loss_cuda(const BalanceLoss& o, const std::vector<int64_t>& offsets,
                       const std::vector<int64_t>& run_tokens, const RouterShape& shape, CudaQueue queue) {
  dispatch_scores(o.scores, [&]<class A>(A) {
    const Loss<A> operands{.d_scores = o.d_scores.as<A>(),
                           .token_losses = o.token_losses.as<double>(),
                           .scores = o.scores.as<A>(),
                           .counts = o.counts.as<int64_t>(),
                           .num_experts = static_cast<int>(shape.num_experts),
                           .topk = static_cast<int>(shape.topk),
                           .coefficient = o.coefficient};
    for_each_runs(offsets, &run_tokens, [&](const Runs& runs, int64_t tokens) {
      launch_kernel("router.balance_loss", loss_of_tokens<A>, grid_of_tokens(tokens), queue, operands, runs);
    });
    if (o.scores.rows == 0) return;
    constexpr int kMostThreads = 1024;
    launch_kernel("router.balance_loss", add_token_losses<A>, Grid{dim3(1), dim3(kMostThreads)}, queue, o.loss.as<A>(),
                  o.token_losses.as<double>(), o.scores.rows);
  });
}

}  // namespace shoal
