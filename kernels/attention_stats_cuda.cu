// kernels/attention_stats_cuda.cu: log_sum_exp between rows of heads and a rectangle, a thread an element.
#include "kernels/attention_stats_cuda.h"
#include "kernels/cuda_launch.h"

namespace shoal {

namespace {

constexpr int kThreads = 256;

enum class Direction { kSpread, kGather };

template <Direction direction>
__global__ void move_stats(const AttentionStats stats) {
  const int64_t at = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t head = blockIdx.y, document = blockIdx.z;
  if (at >= stats.length) return;
  float* const inside = stats.rectangle + (document * stats.heads + head) * stats.length + at;
  float* const outside = stats.rows + head * stats.row_stride + stats.begins[document] + at;
  const bool holds = at < stats.lengths[document];
  if constexpr (direction == Direction::kSpread) {
    *inside = holds ? *outside : 0.0f;
  } else if (holds) {
    *outside = *inside;
  }
}

Grid grid_of(const AttentionStats& stats) {
  return {dim3(static_cast<unsigned>(ceil_div(stats.length, kThreads)), static_cast<unsigned>(stats.heads),
               static_cast<unsigned>(stats.documents)),
          dim3(kThreads)};
}

}  // namespace

void spread_attention_stats_cuda(const AttentionStats& stats, CudaQueue queue) {
  launch_kernel("attention.backward", move_stats<Direction::kSpread>, grid_of(stats), queue, stats);
}

void gather_attention_stats_cuda(const AttentionStats& stats, CudaQueue queue) {
  launch_kernel("attention.forward", move_stats<Direction::kGather>, grid_of(stats), queue, stats);
}

}  // namespace shoal
