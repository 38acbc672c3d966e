// kernels/sort_by_expert.cpp: the public door: checks, work, dispatch.
#include "kernels/sort_by_expert.h"

#include "kernels/launch.h"
#include "kernels/operands.h"
#include "kernels/sort_by_expert_cpu.h"
#include "kernels/sort_by_expert_cuda.h"

namespace shoal {

ExpertOrder empty_expert_order(int64_t tokens, int64_t topk, int64_t num_experts, DType weights, Stream& stream) {
  return {.counts = stream.activation({num_experts}, DType::kI64),
          .source_row = stream.activation({tokens * topk}, DType::kI32),
          .first = stream.activation({tokens + 1}, DType::kI32),
          .sorted_rows = stream.activation({tokens * topk}, DType::kI32),
          .row_weights = stream.activation({tokens * topk}, weights)};
}

void sort_by_expert(const ExpertOrder& order, const Tensor& experts, const Tensor& weights, Stream& stream) {
  check_on(stream, order.counts, order.source_row, order.first, order.sorted_rows, order.row_weights, experts, weights);
  check_dense(order.counts, order.source_row, order.first, order.sorted_rows, order.row_weights, experts, weights);
  SHOAL_CHECK(experts.dims() == 2 && experts.size(1) > 0, "experts is {}, expected [tokens, topk]", experts.shape());
  SHOAL_CHECK_EQ(weights.shape(), experts.shape());
  SHOAL_CHECK(weights.dtype() == DType::kF32 || weights.dtype() == DType::kF64, "weights are {}, expected f32 or f64",
              name_of(weights.dtype()));
  SHOAL_CHECK(experts.numel() <= INT32_MAX, "{} routed rows exceed 32 bits", experts.numel());
  check_dtype(experts, DType::kI32);
  check_dtype(order.counts, DType::kI64);
  check_dtype(order.row_weights, weights.dtype());
  const Shape choices{experts.numel()};
  for (const Tensor& indices : {order.source_row, order.sorted_rows}) {
    check_dtype(indices, DType::kI32);
    SHOAL_CHECK_EQ(indices.shape(), choices);
  }
  check_dtype(order.first, DType::kI32);
  SHOAL_CHECK_EQ(order.row_weights.shape(), choices);
  SHOAL_CHECK_EQ(order.first.shape(), (Shape{experts.size(0) + 1}));
  SHOAL_CHECK(order.counts.dims() == 1 && order.counts.numel() >= experts.size(1), "{} of {} experts", experts.size(1),
              order.counts.numel());
  if (stream.device() == DeviceKind::kCuda && order.counts.numel() > kMostSortedExpertsOnCuda) {
    fail("{} experts on one rank: on CUDA they are at most {}", order.counts.numel(), kMostSortedExpertsOnCuda);
  }
  const Work work{.op = "sort_by_expert",
                  .kind = WorkKind::kMove,
                  .bytes = operand_bytes(order.counts, order.source_row, order.first, order.sorted_rows,
                                         order.row_weights, experts, weights),
                  .precision = weights.dtype()};
  const Tensor scratch = stream.workspace(
      {stream.imitates() == DeviceKind::kCuda ? sort_by_expert_scratch(experts.numel(), order.counts.numel()) : 0},
      DType::kI32);
  launch(
      stream, work, [&] { sort_by_expert_cpu(order, experts, weights); },
      [&](CudaQueue queue) {
        sort_by_expert_cuda({.counts = order.counts.view(),
                             .source_row = order.source_row.view(),
                             .first = order.first.view(),
                             .sorted_rows = order.sorted_rows.view(),
                             .row_weights = order.row_weights.view(),
                             .experts = experts.view(),
                             .weights = weights.view(),
                             .scratch = scratch.view()},
                            queue);
      });
}

}  // namespace shoal
