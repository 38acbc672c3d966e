// parallel/hop_plan.h: one hop of the tokens' way: an all-to-all of rows over one group.
#pragma once

#include "core/base/lane.h"
#include "parallel/communicator.h"
#include "parallel/route_plan.h"

namespace shoal {

struct Hop {
  Communicator* group = nullptr;
  std::vector<int> destination;  // of each expert: a rank of the group; empty: every rank
  std::vector<int32_t> reached;  // experts behind this hop on this rank
};

// Choices (expert, weight, home) on their way to this rank: 16 B each, 32 B with f64 weights.
struct ArrivingChoices {
  OperationPtr sending;
  Tensor words;  // [choices received, 4] i32 (i64)
};

// Collective over the hop's group. Fills `plan` for this rank's choices: row counts have crossed the wire when it
// returns, the choices themselves are posted. `weights`: f32 or f64.
Task<ArrivingChoices> begin_hop(HopPlan& plan, const Hop& hop, RouteChoices choices, DType weights, Lane& lane);
// Those that arrived here.
Task<RouteChoices> finish_hop(ArrivingChoices arriving, const HopPlan& plan, const Hop& hop, Lane& lane);

}  // namespace shoal
