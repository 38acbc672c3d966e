// core/plan/search_axes.h: what each knob of a layout may be.
#pragma once

#include <string>
#include <vector>

#include "core/config/load.h"
#include "core/plan/planned_layout.h"

namespace shoal {

struct SearchAxes {
  std::vector<int> num_nodes, pipeline, tensor, expert, expert_tensor;
  std::vector<PipelineSchedule> schedule;
  std::vector<LinearPrecision::Format> linear;
  std::vector<ParallelConfig::Dispatch> dispatch;
  std::vector<ParallelConfig::Overlap::Schedule> overlap;
  std::vector<RecomputeConfig> recompute;
  std::vector<int64_t> microbatch;
};

// Where the command line gives a knob, it has that value alone. `num_nodes`: sizes of cluster to look at; empty: the
// cluster's own.
SearchAxes make_axes(const LoadedConfig& loaded, const ClusterConfig& cluster, const std::vector<int>& num_nodes);

// The field, or a part of it.
bool is_on_command_line(const LoadedConfig& loaded, const std::string& path);

}  // namespace shoal
