// core/plan/planned_layout.cpp: GPUs dealt to axes, and what the runtime would choose on them.
#include "core/plan/planned_layout.h"

#include <algorithm>

#include "core/config/layer_part.h"
#include "core/train/microbatches.h"
#include "core/train/model_runtime.h"
#include "core/train/overlap_choice.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

namespace {

using Overlap = ParallelConfig::Overlap;

void check_ranks(const ParallelConfig& parallel, const ClusterConfig& cluster) {
  const int num_ranks = cluster.num_nodes() * cluster.gpus_per_node();
  const int64_t given = int64_t{parallel.pipeline()} * parallel.tensor() * std::max(parallel.data(), 1);
  const bool exact = parallel.data() > 0;
  if (exact ? given == num_ranks : num_ranks % given == 0) return;
  fail(
      "parallel.pipeline ({}) * tensor ({}){} = {} {} the {} GPUs of cluster '{}' ({} nodes of {}); change the layout, "
      "or the cluster with cluster.num_nodes=N",
      parallel.pipeline(), parallel.tensor(), exact ? fmt::format(" * data ({})", parallel.data()) : "", given,
      exact ? "is not" : "does not divide", num_ranks, cluster.name(), cluster.num_nodes(), cluster.gpus_per_node());
}

// What the runtime would choose; of a pipeline, where no schedule takes microbatches two by two, what it can have.
Overlap::Schedule planned_overlap(const Config& stage, const ProcessMesh& mesh, int num_stages) {
  const Overlap::Schedule asked = stage.parallel().overlap(), resolved = resolve_overlap(stage, mesh);
  if (num_stages == 1 || resolved != Overlap::PAIR_FORWARD) return resolved;
  if (asked == Overlap::AUTO) return Overlap::PAIR_FORWARD_BACKWARD;
  fail(
      "parallel.overlap is PAIR_FORWARD, but with parallel.pipeline ({}) no schedule takes microbatches two by two; "
      "set "
      "it to PAIR_FORWARD_BACKWARD or OFF",
      num_stages);
}

// Of the ranks of one stage.
struct PaperMesh {
  PaperMesh(const ParallelConfig& parallel, int num_ranks, int ranks_per_node)
      : world(0, simulated_nodes(num_ranks, ranks_per_node), paper), mesh(mesh_sizes(parallel), world) {}
  Allocator paper{DeviceKind::kSimulated};
  SimulatedCommunicator world;
  ProcessMesh mesh;
};

ParallelConfig stage_parallel(const ParallelConfig& parallel, int ranks_per_node) {
  ParallelConfig stage = parallel;
  stage.set_pipeline(1);
  stage.clear_pipeline_schedule();
  stage.clear_data();
  stage.clear_emulate();
  stage.set_ranks_per_node(ranks_per_node);
  return stage;
}

DType planned_compute(const PrecisionConfig& precision, const ClusterConfig& cluster) {
  if (precision.compute() == PrecisionConfig::AUTO && cluster.has_measured()) {
    return cluster.measured().compute() == name_of(DType::kF32) ? DType::kF32 : DType::kBF16;
  }
  return resolve_compute(precision, DeviceKind::kCuda);
}

bool computes_in_fp8(const PrecisionConfig& precision) {
  for (int part = 0; part < kNumLayerParts; ++part) {
    if (is_fp8(precision, static_cast<LayerPart>(part))) return true;
  }
  return false;
}

}  // namespace

PlannedLayout plan_layout(const Config& config, const ClusterConfig& cluster) {
  const ParallelConfig& parallel = config.parallel();
  check_ranks(parallel, cluster);
  PlannedLayout layout;
  layout.num_nodes = cluster.num_nodes();
  layout.num_ranks = cluster.num_nodes() * cluster.gpus_per_node();
  layout.pipeline = parallel.pipeline();
  layout.pipeline_schedule = parallel.pipeline_schedule();
  Config stage = config;
  *stage.mutable_parallel() = stage_parallel(parallel, cluster.gpus_per_node());
  const PaperMesh paper(stage.parallel(), layout.stage_ranks(), cluster.gpus_per_node());
  const MeshSizes& sizes = paper.mesh.sizes();
  layout.data = sizes.data;
  layout.tensor = sizes.tensor;
  layout.expert = sizes.expert;
  layout.expert_tensor = sizes.expert_tensor;
  layout.expert_data = paper.mesh.expert_data_size();
  layout.has_wires = has_wires_in_layers(stage, paper.mesh);
  layout.can_go_by_nodes = paper.mesh.expert_across() != nullptr;
  layout.overlap = planned_overlap(stage, paper.mesh, layout.pipeline);
  layout.microbatches = num_microbatches(config.train().global_batch(), sizes.data, config.train().microbatch());
  layout.compute = planned_compute(config.precision(), cluster);
  layout.fp8 = computes_in_fp8(config.precision());
  check_pipeline(config, layout.microbatches);
  return layout;
}

Config stage_config(const Config& config, const ClusterConfig& cluster, const PlannedLayout& layout) {
  Config stage = config;
  *stage.mutable_parallel() = stage_parallel(config.parallel(), cluster.gpus_per_node());
  stage.mutable_parallel()->set_overlap(layout.overlap);
  const int64_t shares = layout.microbatches * layout.data;
  stage.mutable_train()->set_microbatch((config.train().global_batch() + shares - 1) / shares);
  return stage;
}

}  // namespace shoal
