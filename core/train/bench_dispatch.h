// core/train/bench_dispatch.h: how fast a MoE block's tokens reach their experts and come back.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/train/dispatch_traffic.h"
#include "core/train/rank_timing.h"

namespace shoal {

// One step of one way (token_exchange.h).
struct DispatchTime {
  std::string way;    // "direct", "hierarchical"
  std::string what;   // "plan", "dispatch", "combine"
  int num_ranks = 1;  // among which the experts are split, or parts of them
  // Sent by one rank to others on its node, and on other nodes; the ranks' mean. Of plan: counts and choices, of the
  // others: rows.
  double within_bytes = 0;
  double between_bytes = 0;
  RankTime time = {};
  double gb_per_s = 0;  // both / median time
  // Over all ranks. plan: rows too many or too few for an expert; dispatch: elements that arrived wrong; combine:
  // elements of tokens that returned, through experts that do nothing and weigh 1, as something else than topk times
  // themselves.
  int64_t wrong = 0;
};

// Collective over the mesh: plan, dispatch, combine, direct and, where the mesh allows it, hierarchical. Packing,
// sorting and summing of rows are in the times, as they are in training. Calls `report` (on every rank) with
// each, once its way is through.
std::vector<DispatchTime> bench_dispatch(const DispatchShape& shape, const ProcessMesh& mesh, Allocator& allocator,
                                         double seconds, const std::function<void(const DispatchTime&)>& report = {});

// A table's heading, a line of it, one JSON object.
std::string dispatch_heading(const DispatchShape& shape, const ProcessMesh& mesh);
std::string describe(const DispatchTime& time);
std::string to_json(const DispatchTime& time);

}  // namespace shoal
