// core/plan/step_plan.h: one training step of a run on a described cluster: time, what it goes to, bytes, memory.
//
// The step is the runtime's own, played by one rank of each stage that differs (stage_play.h). Where parallel.pipeline
// exceeds 1, what stages do to each other comes from closed forms (pipeline.h), and `has_closed_forms` says so.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/config/cluster.pb.h"
#include "core/plan/planned_layout.h"
#include "core/plan/stage_plays.h"

namespace shoal {

struct StepPlan {
  PlannedLayout layout;
  bool has_closed_forms = false;
  double step_s = 0;      // = rank.step_s + unpaired_s + bubble_s
  RankStep rank;          // of the rank that the others wait for, were there no other stage
  double optimize_s = 0;  // of rank.step_s: what happens once a step; 0 where it was not told apart
  double unpaired_s = 0;  // passes at both ends of a pipeline take longer, with no other to hide their waiting
  double bubble_s = 0;    // nothing to do: other stages are not so far
  StageTimes pass;        // of a microbatch on that rank's stage; zeros without a pipeline
  std::vector<TransformerPart> stages;
  int slowest_stage = 0;
  MemoryByKind memory{};  // of the fullest rank, at its peak
  double memory_bytes = 0;
  double memory_limit_bytes = 0;  // what the cluster's GPU has for tensors
  int fullest_stage = 0;
  int64_t checkpoint_bytes_per_rank = 0;    // the most of any stage
  std::map<std::string, double> guessed_s;  // of a short step, on the slowest stage: ops that no measurement names

  bool fits() const { return memory_bytes <= memory_limit_bytes; }
};

// `config` is validated for ConfigUse::kStep. parallel.ranks_per_node and parallel.emulate are not looked at: the
// cluster tells. Throws where the layout and the cluster do not fit each other; too little memory is no reason.
StepPlan plan_step(const Config& config, const ClusterConfig& cluster);
// The same, where stages may have been played for another plan. `plays`: of this cluster, or of one like it with
// another number of nodes.
StepPlan plan_step(const Config& config, const ClusterConfig& cluster, StagePlays& plays);

}  // namespace shoal
