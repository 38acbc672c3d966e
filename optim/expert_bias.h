// optim/expert_bias.h: load balance without an auxiliary loss (arXiv:2408.15664): the router's selection bias follows
// the experts' load.
//
//   counts  [moe_layers, num_experts] i64   tokens each expert was chosen by in a step
//   biases  moe_layers × [num_experts] f32
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/lane.h"
#include "parallel/communicator.h"

namespace shoal {

// bias[e] += rate * sign(mean(counts) - counts[e]), less the mean of these deltas over the experts, so that the biases'
// own mean does not drift. The sign is exact (in integers).
void update_expert_bias(std::span<float> bias, std::span<const int64_t> counts, double rate);

// (max(counts) - mean) / mean: 0 when balanced, num_experts / topk - 1 when all tokens choose alike. 0 without tokens.
double max_violation(std::span<const int64_t> counts);

struct ExpertLoad {
  std::vector<std::vector<int64_t>> tokens;  // of all ranks, by layer and expert
  std::vector<double> violations;            // by layer
};

// Collective: sums `counts` over `group` (all ranks that see different tokens of the step) in place, updates each
// layer's bias when `biases` is not empty (then it has one tensor a layer), and returns each layer's load.
// On kSimulated the load is balanced.
Task<ExpertLoad> balance_experts(std::vector<Tensor> biases, Tensor counts, double rate, Communicator& group,
                                 Lane& lane);

}  // namespace shoal
