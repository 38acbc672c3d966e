// parallel/route_plan.h: where every row of a MoE block goes, and how it comes back: one plan for all four trips.
//
// Dispatch and combine are each other's backward. A token's row reaches a rank once, however many of that rank's
// experts it chose; there it is expanded to one row per (row, local expert), sorted by expert, so that each expert's
// rows are contiguous. The expert multiplies the router's weight in, so that combine only adds: by ascending expert id,
// in f32.
//
//   rows_routed  rows of the sorted list on this rank          rows_received  rows that arrived (here: the local
//                                                                             tokens)
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/stream.h"

namespace shoal {

struct RoutePlan {
  int64_t rows_received = 0;
  int64_t rows_routed = 0;
  std::vector<int64_t> offsets;  // [local_experts + 1]: expert e owns sorted rows [offsets[e], offsets[e + 1])

  Tensor source_row;   // [rows_routed] i32: received row of each sorted row (dispatch: gather_rows)
  Tensor source_slot;  // [rows_routed] i32: row * topk + slot of the router's choice (where its weight's gradient goes)
  Tensor first;        // [rows_received + 1] i32 and …
  Tensor sorted_rows;  // [rows_routed] i32: sorted rows of each received row, ascending by expert (combine: sum_rows)
  Tensor row_weights;  // [rows_routed] f32 (f64): the router's weight of each sorted row
};

// Plans the trips of `experts` [tokens, topk] i32 (ascending within a token) with `weights` [tokens, topk].
// A simulated device has no choices to read: it goes on with balanced counts.
RoutePlan plan_routes(const Tensor& experts, const Tensor& weights, int64_t num_experts, Stream& stream);

// d_weights [tokens, topk] from the sorted rows' gradients [rows_routed].
void scatter_weight_gradients(Tensor d_weights, const Tensor& d_row_weights, const RoutePlan& plan, Stream& stream);

}  // namespace shoal
