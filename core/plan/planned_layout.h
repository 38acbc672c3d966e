// core/plan/planned_layout.h: how a run's axes lie on a described cluster.
#pragma once

#include "core/base/dtype.h"
#include "core/config/cluster.pb.h"
#include "core/config/config.pb.h"
#include "core/plan/pipeline.h"

namespace shoal {

// How the ranks are used.
struct PlannedLayout {
  int num_ranks = 1, num_nodes = 1;
  int pipeline = 1, data = 1, tensor = 1, expert = 1, expert_tensor = 1, expert_data = 1;
  PipelineSchedule pipeline_schedule = ParallelConfig::Pipeline::ONE_F_ONE_B;
  ParallelConfig::Overlap::Schedule overlap = ParallelConfig::Overlap::OFF;
  int64_t microbatches = 1;  // of a rank, each step
  DType compute = DType::kBF16;
  bool fp8 = false;
  bool has_wires = false;        // a microbatch waits for other ranks on its way through the layers
  bool can_go_by_nodes = false;  // the ranks that split the experts lie evenly on several nodes

  int stage_ranks() const { return num_ranks / pipeline; }
};

// All GPUs of the cluster are used. Throws, with the arithmetic, where the layout does not fit them or itself.
PlannedLayout plan_layout(const Config& config, const ClusterConfig& cluster);

// What the ranks of one stage would be told, were there no others: every rank with the largest share of the batch that
// any has.
Config stage_config(const Config& config, const ClusterConfig& cluster, const PlannedLayout& layout);

}  // namespace shoal
