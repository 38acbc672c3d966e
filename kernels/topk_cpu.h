// kernels/topk_cpu.h: the router's CPU loops, token by token.
#pragma once

#include "kernels/topk.h"

namespace shoal {

void router_scores_cpu(Tensor scores, const Tensor& logits, const RouterShape& shape);
void router_choose_cpu(Tensor experts, const Tensor& scores, const Tensor& bias, const RouterShape& shape);
void router_weights_cpu(Tensor weights, const Tensor& scores, const Tensor& experts, const RouterShape& shape);
void router_backward_cpu(Tensor d_logits, const Tensor& d_weights, const Tensor& d_scores, const Tensor& scores,
                         const Tensor& experts, const RouterShape& shape);
void balance_counts_cpu(Tensor counts, const Tensor& experts, const std::vector<int64_t>& offsets,
                        const RouterShape& shape);
// `token_losses` [tokens] f64 is scratch.
void balance_loss_cpu(Tensor loss, Tensor d_scores, Tensor token_losses, const Tensor& scores, const Tensor& counts,
                      const std::vector<int64_t>& offsets, const std::vector<int64_t>& run_tokens, double coefficient,
                      const RouterShape& shape);

}  // namespace shoal
