// core/train/memory_report.cpp: the training step itself on paper, and a table.
#include "core/train/memory_report.h"

#include <algorithm>

#include "core/train/microbatches.h"
#include "core/train/overlap_choice.h"
#include "core/train/progress.h"
#include "core/train/rehearsal.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

RankMemory predict_memory(const Config& config, const ProcessMesh& mesh, DType compute, DeviceKind device) {
  Allocator paper(DeviceKind::kSimulated);
  std::vector<int> nodes;
  for (int rank = 0; rank < mesh.world().size(); ++rank) nodes.push_back(mesh.world().node(rank));
  SimulatedCommunicator world(mesh.world().rank(), std::move(nodes), paper);
  const ProcessMesh paper_mesh(mesh.sizes(), world);
  // The peak is reached by the second microbatch, or a pair in the middle. Every rank gets the largest share, in one
  // piece.
  const TrainConfig& train = config.train();
  const int64_t ranks = paper_mesh.data().size();
  const int64_t rounds = num_microbatches(train.global_batch(), static_cast<int>(ranks), train.microbatch());
  const int64_t largest = (train.global_batch() + rounds * ranks - 1) / (rounds * ranks);
  Config even = config;
  even.mutable_train()->set_microbatch(largest);
  even.mutable_train()->set_global_batch(std::min<int64_t>(rounds, 4) * ranks * largest);
  return dry_run(even, paper_mesh, paper, compute, device).memory;
}

FullestRank find_fullest_rank(const RankMemory& mine, Communicator& world) {
  Allocator allocator(DeviceKind::kCpu);
  std::vector<int64_t> values(mine.use.at_total_peak_bytes.begin(), mine.use.at_total_peak_bytes.end());
  values.insert(values.end(), {mine.host_snapshot_bytes, mine.use.total_peak_bytes});
  const auto columns = static_cast<int64_t>(values.size());
  const Tensor all = Tensor::empty({world.size(), columns}, DType::kI64, allocator, MemoryKind::kWorkspace);
  all[world.rank()].copy_from(values);
  wait(world.all_gather(all, all[world.rank()]));
  FullestRank fullest;
  MemoryUse& use = fullest.memory.use;
  for (int rank = 0; rank < world.size(); ++rank) {
    const std::vector<int64_t> theirs = all[rank].to_vector<int64_t>();
    if (theirs.back() <= use.total_peak_bytes) continue;
    fullest.rank = rank;
    std::copy_n(theirs.begin(), kNumMemoryKinds, use.at_total_peak_bytes.begin());
    fullest.memory.host_snapshot_bytes = theirs[kNumMemoryKinds];
    use.total_peak_bytes = theirs.back();
  }
  return fullest;
}

std::string shortage_warning(const RankMemory& predicted, int64_t memory_bytes) {
  if (memory_bytes <= 0 || predicted.use.total_peak_bytes <= memory_bytes) return {};
  return fmt::format(
      "a rank's tensors will take {}, and it can have {}: this run may end with \"out of memory\", or be killed for "
      "it; lower train.microbatch or the model's size, or start more ranks on more machines",
      format_bytes(predicted.use.total_peak_bytes), format_bytes(memory_bytes));
}

std::string describe_shortage(Config config, const ProcessMesh& mesh, DeviceKind device, int64_t memory_bytes) {
  try {
    config.mutable_parallel()->set_overlap(resolve_overlap(config, mesh));
    const RankMemory predicted = predict_memory(config, mesh, resolve_compute(config.precision(), device), device);
    const std::string had =
        memory_bytes > 0 ? fmt::format("; this one could have {}", format_bytes(memory_bytes)) : std::string();
    return fmt::format("what a rank needs, as far as its tensors go{}:\n{}", had, describe_memory(predicted, nullptr));
  } catch (const std::exception&) {
    return {};
  }
}

std::string describe_memory(const RankMemory& predicted, const FullestRank* measured) {
  std::string text = fmt::format("most of any rank    {:>11}{}", "predicted",
                                 measured ? fmt::format("   {:>11}", fmt::format("on rank {}", measured->rank)) : "");
  const RankMemory found = measured ? measured->memory : RankMemory{};
  const auto line = [&](std::string_view name, int64_t expected, int64_t seen) {
    text += fmt::format("\n  {:<17} {:>11}", name, format_bytes(expected));
    if (measured) text += fmt::format("   {:>11}", format_bytes(seen));
  };
  for (int k = 0; k < kNumMemoryKinds; ++k) {
    const auto i = static_cast<size_t>(k);
    line(name_of(static_cast<MemoryKind>(k)), predicted.use.at_total_peak_bytes[i], found.use.at_total_peak_bytes[i]);
  }
  line("peak", predicted.use.total_peak_bytes, found.use.total_peak_bytes);
  if (predicted.host_snapshot_bytes > 0 || found.host_snapshot_bytes > 0) {
    line("snapshot, in host", predicted.host_snapshot_bytes, found.host_snapshot_bytes);
  }
  return text;
}

}  // namespace shoal
