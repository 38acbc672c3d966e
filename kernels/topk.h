// kernels/topk.h: the router: from logits to the experts of each token and their weights, and back.
//
//   logits   [tokens, num_experts] f32 (f64)
//   scores   [tokens, num_experts] f32 (f64)  sigmoid or softmax of the logits, kept for backward
//   experts  [tokens, topk] i32               chosen experts, ascending by id within a token
//   weights  [tokens, topk] f32 (f64)         in the order of `experts`
//   bias     [num_experts] f32, or undefined  added to the scores for the choice only, never in the weights
//
// Choice (formats of DeepSeek-V3): groups are ranked (sum of their two best, or best, biased scores), experts outside
// the best topk_groups are out (-inf), then the topk best biased scores win; ties take the lower id, for groups too.
// Rows of NaN still yield distinct experts; which ones depends on the device.
// Weight: score / (sum of chosen scores + 1e-20) if normalize, times route_scale.
#pragma once

#include <vector>

#include "core/base/stream.h"
#include "kernels/router_shape.h"

namespace shoal {

// Forced choices of rows [first_row, first_row + rows) of a step, ascending within a row: every expert gets the same
// share, a row's experts lie as far apart as they can, within topk_groups groups. Row-major [rows, topk].
std::vector<int32_t> balanced_choices(int64_t first_row, int64_t rows, const RouterShape& shape);

void router_scores(Tensor scores, const Tensor& logits, const RouterShape& shape, Stream& stream);
void router_choose(Tensor experts, const Tensor& scores, const Tensor& bias, const RouterShape& shape, Stream& stream);
// Weights of choices already made (chosen, replayed or balanced).
void router_weights(Tensor weights, const Tensor& scores, const Tensor& experts, const RouterShape& shape,
                    Stream& stream);

// Overwrites d_logits: through the weights of the chosen experts, plus `d_scores` [tokens, num_experts] (undefined: 0),
// the balance loss's gradient with respect to the scores. The choice itself has no gradient.
void router_backward(Tensor d_logits, const Tensor& d_weights, const Tensor& d_scores, const Tensor& scores,
                     const Tensor& experts, const RouterShape& shape, Stream& stream);

// Balance loss over runs of tokens (sequences, or one run for the whole batch):
//   L = coefficient * Σ_runs Σ_e f_e P_e,  f_e = num_experts * count_e / (topk * tokens of the run),
//   P_e = mean over the run's tokens of score_e / Σ scores (+ 1e-20; softmax scores sum to 1 already).
// In two ops, because the tokens of a run may be split over ranks: count, sum the counts over the ranks, then the loss.
// Run r holds the tokens [offsets[r], offsets[r + 1]) here.

// Overwrites counts [runs, num_experts] i64: how often the run's tokens here chose each expert.
void balance_counts(Tensor counts, const Tensor& experts, const std::vector<int64_t>& offsets, const RouterShape& shape,
                    Stream& stream);
// Adds to `loss` [1] the share of L that the tokens here have in P (the ranks' shares sum to L) and dL/dscores to
// `d_scores`. `counts` and `run_tokens` are of the whole run, on all ranks; topk * run_tokens is the sum of its counts.
// Counts have no gradient. Runs without tokens here add nothing.
void balance_loss(Tensor loss, Tensor d_scores, const Tensor& scores, const Tensor& counts,
                  const std::vector<int64_t>& offsets, const std::vector<int64_t>& run_tokens, double coefficient,
                  const RouterShape& shape, Stream& stream);

}  // namespace shoal
