// tests/kernels/router_test.h: what the tests of the router share: published shapes, and both ops of the balance loss.
#pragma once

#include "kernels/topk.h"
#include "tests/kernels/op_test.h"

namespace shoal {

inline RouterShape published_shape(int which) {
  switch (which) {
    case 0:  // DeepSeek-V3, smaller
      return {.num_experts = 24,
              .topk = 4,
              .score = RouterScore::kSigmoid,
              .num_groups = 6,
              .topk_groups = 3,
              .group_score = GroupScore::kTop2Sum,
              .normalize = true,
              .route_scale = 2.5};
    case 1:  // DeepSeek-V2
      return {.num_experts = 20,
              .topk = 3,
              .score = RouterScore::kSoftmax,
              .num_groups = 4,
              .topk_groups = 2,
              .group_score = GroupScore::kMax,
              .normalize = false,
              .route_scale = 16};
    case 2:  // Qwen3-MoE, Mixtral
      return {.num_experts = 11, .topk = 3, .score = RouterScore::kSoftmax, .normalize = true};
    case 4:  // more experts than a warp has lanes
      return {.num_experts = 77,
              .topk = 8,
              .score = RouterScore::kSoftmax,
              .num_groups = 7,
              .topk_groups = 4,
              .group_score = GroupScore::kTop2Sum,
              .normalize = true,
              .route_scale = 2.5};
    default:  // every expert chosen, groups of one
      return {.num_experts = 5,
              .topk = 5,
              .score = RouterScore::kSigmoid,
              .num_groups = 5,
              .topk_groups = 5,
              .normalize = true};
  }
}

// Both ops, with every run whole on this rank.
inline void local_balance_loss(const Tensor& loss, const Tensor& d_scores, const Tensor& scores, const Tensor& experts,
                               const std::vector<int64_t>& offsets, double coefficient, const RouterShape& s,
                               Stream& stream) {
  std::vector<int64_t> run_tokens;
  for (size_t run = 1; run < offsets.size(); ++run) run_tokens.push_back(offsets[run] - offsets[run - 1]);
  Tensor counts = stream.workspace(Shape{static_cast<int64_t>(run_tokens.size()), s.num_experts}, DType::kI64);
  balance_counts(counts, experts, offsets, s, stream);
  balance_loss(loss, d_scores, scores, counts, offsets, run_tokens, coefficient, s, stream);
}

}  // namespace shoal
