// core/train/overlap_choice.cpp: AUTO, without and with memory.
#include "core/train/overlap_choice.h"

#include "core/train/memory_report.h"
#include "core/train/microbatches.h"

namespace shoal {

namespace {

// The first and the last run half alone.
constexpr int64_t kManyMicrobatches = 8;

}  // namespace

bool has_wires_in_layers(const Config& config, const ProcessMesh& mesh) {
  if (mesh.tensor().size() > 1) return true;
  return config.model().has_moe() && (mesh.expert().size() > 1 || mesh.expert_tensor().size() > 1);
}

ParallelConfig::Overlap::Schedule resolve_overlap(const Config& config, const ProcessMesh& mesh) {
  const ParallelConfig& parallel = config.parallel();
  if (parallel.overlap() != ParallelConfig::Overlap::AUTO) return parallel.overlap();
  if (parallel.gradient_reduction() == ParallelConfig::EACH_MICROBATCH || !has_wires_in_layers(config, mesh)) {
    return ParallelConfig::Overlap::OFF;
  }
  const int64_t microbatches =
      num_microbatches(config.train().global_batch(), mesh.data().size(), config.train().microbatch());
  return microbatches >= kManyMicrobatches ? ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD
                                           : ParallelConfig::Overlap::PAIR_FORWARD;
}

ParallelConfig::Overlap::Schedule choose_overlap(const Config& config, const ProcessMesh& mesh, DType compute,
                                                 int64_t memory_bytes, DeviceKind device) {
  const ParallelConfig::Overlap::Schedule overlap = resolve_overlap(config, mesh);
  if (overlap == config.parallel().overlap() || overlap != ParallelConfig::Overlap::PAIR_FORWARD) return overlap;
  Config paired = config;
  paired.mutable_parallel()->set_overlap(overlap);
  const auto predicted = static_cast<double>(predict_memory(paired, mesh, compute, device).use.total_peak_bytes);
  const bool fits = memory_bytes == 0 || predicted <= 0.9 * static_cast<double>(memory_bytes);
  Allocator host(DeviceKind::kCpu);
  const Tensor ranks = Tensor::empty({1}, DType::kI64, host, MemoryKind::kWorkspace);
  ranks.copy_from<int64_t>({fits ? 1 : 0});
  wait(mesh.world().all_reduce(ranks));
  const bool all_fit = ranks.data<int64_t>()[0] == mesh.world().size();
  return all_fit ? overlap : ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD;
}

std::string_view describe(ParallelConfig::Overlap::Schedule overlap) {
  switch (overlap) {
    case ParallelConfig::Overlap::AUTO: return "auto";
    case ParallelConfig::Overlap::OFF: return "off";
    case ParallelConfig::Overlap::PAIR_FORWARD: return "pair forward";
    case ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD: return "pair forward with backward";
  }
  return "?";
}

}  // namespace shoal
