// kernels/topk_cuda.h: the router's CUDA kernels.
#pragma once

#include <vector>

#include "core/base/cuda_backend.h"
#include "core/base/tensor_view.h"
#include "kernels/router_shape.h"

namespace shoal {

void router_scores_cuda(const TensorView& scores, const TensorView& logits, const RouterShape& shape, CudaQueue queue);
// As on the CPU for all numbers; NaN ranks behind every number.
void router_choose_cuda(const TensorView& experts, const TensorView& scores, const TensorView& bias,
                        const RouterShape& shape, CudaQueue queue);
void router_weights_cuda(const TensorView& weights, const TensorView& scores, const TensorView& experts,
                         const RouterShape& shape, CudaQueue queue);
void router_backward_cuda(const TensorView& d_logits, const TensorView& d_weights, const TensorView& d_scores,
                          const TensorView& scores, const TensorView& experts, const RouterShape& shape,
                          CudaQueue queue);

// `offsets` and `run_tokens` travel as kernel parameters.
void balance_counts_cuda(const TensorView& counts, const TensorView& experts, const std::vector<int64_t>& offsets,
                         const RouterShape& shape, CudaQueue queue);
struct BalanceLoss {
  TensorView loss, d_scores;
  TensorView token_losses;  // scratch: [tokens] f64
  TensorView scores, counts;
  double coefficient = 0;
};
void balance_loss_cuda(const BalanceLoss& operands, const std::vector<int64_t>& offsets,
                       const std::vector<int64_t>& run_tokens, const RouterShape& shape, CudaQueue queue);

}  // namespace shoal
