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

// Whole numbers for the device, or how many they are: all that a tensor without contents needs.
struct IndexList {
  std::vector<int32_t> values;
  int64_t size = 0;

  IndexList() = default;
  explicit IndexList(std::vector<int32_t> all) : values(std::move(all)), size(static_cast<int64_t>(values.size())) {}
  void keep_size_only() { values = {}; }
};

// A hop's rows and choices by destination, and how they come back: HopPlan before it has tensors.
struct HopLists {
  std::vector<int64_t> rows_sent, choices_sent;  // to each rank of the group
  IndexList send_row, first, groups, returned, choice_first, choice_returned;
  IndexList sent;  // choices, by destination

  void keep_sizes_only();
};
HopLists list_hop(const Hop& hop, const RouteChoices& choices);

// Choices (expert, weight, home) on their way to this rank: 16 B each, 32 B with f64 weights.
struct ArrivingChoices {
  OperationPtr sending;
  Tensor words;  // [choices received, 4] i32 (i64)
};

// Collective over the hop's group. Fills `plan` for this rank's choices: row counts have crossed the wire when it
// returns, the choices themselves are posted. `choices`: not read where `lists` has sizes only. `weights`: f32 or f64.
Task<ArrivingChoices> begin_hop(HopPlan& plan, const Hop& hop, const HopLists& lists, const RouteChoices& choices,
                                DType weights, Lane& lane);
// Those that arrived here.
Task<RouteChoices> finish_hop(ArrivingChoices arriving, const HopPlan& plan, const Hop& hop, Lane& lane);
// The same without reading them.
Task<void> await_choices(ArrivingChoices arriving, Lane& lane);

}  // namespace shoal
