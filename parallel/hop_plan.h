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

// Collective over the hop's group. Fills `plan` for this rank's choices and returns those that arrive here: counts
// cross the wire first, then choices (expert, weight, home), 16 B each (32 B with f64 weights). `weights`: f32 or f64.
Task<RouteChoices> plan_hop(HopPlan& plan, const Hop& hop, RouteChoices choices, DType weights, Lane& lane);

}  // namespace shoal
