// kernels/sort_by_expert.h: a router's choices sorted by expert: where each token's rows go, and where they are found
// again, without the host's seeing a choice.
//
// The sort is stable: an expert's rows are in the order of their tokens.
#pragma once

#include "core/base/stream.h"

namespace shoal {

struct ExpertOrder {
  Tensor counts;       // [num_experts] i64: how many chose each expert
  Tensor source_row;   // [tokens * topk] i32: the token of each sorted row
  Tensor first;        // [tokens + 1] i32: token t's choices are [first[t], first[t + 1])
  Tensor sorted_rows;  // [tokens * topk] i32: the sorted row of each choice; a token's are ascending
  Tensor row_weights;  // [tokens * topk], as weights: the weight of each sorted row
};
ExpertOrder empty_expert_order(int64_t tokens, int64_t topk, int64_t num_experts, DType weights, Stream& stream);

// Overwrites `order`.   experts [tokens, topk] i32, ascending along a row, each in [0, num_experts): a CPU refuses
// others with a sentence, a GPU's kernel stops.   weights [tokens, topk] f32 or f64.
void sort_by_expert(const ExpertOrder& order, const Tensor& experts, const Tensor& weights, Stream& stream);

}  // namespace shoal
