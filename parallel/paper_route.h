// parallel/paper_route.h: the sizes of a route, remembered on paper, where tensors have no contents.
//
// Balanced choices repeat from layer to layer and from microbatch to microbatch, and sorting them is most of what a
// step on paper would take. The same choices lead to the same sizes.
#pragma once

#include "parallel/hop_plan.h"

namespace shoal {

struct PaperRoute {
  std::vector<int32_t> experts;  // the choices that it is for
  std::vector<int64_t> expert_counts;
  std::vector<HopLists> hops;  // sizes only
  bool is_whole = false;       // what follows is known, too
  int64_t rows_received = 0;
  int64_t rows_routed = 0;
  std::vector<int64_t> offsets;

  // What sort_for_experts() left.
  void remember_end(const RoutePlan& plan);
  // The same as sort_for_experts() would leave.
  void fill_end(RoutePlan& plan, DType weights, Stream& stream) const;
};

}  // namespace shoal
