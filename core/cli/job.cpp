// core/cli/job.cpp: world, threads, mesh: in that order.
#include "core/cli/job.h"

#include <spdlog/spdlog.h>

#include "core/cli/machine.h"

namespace shoal {

MeshSizes mesh_sizes(const ParallelConfig& parallel) {
  return {.island = parallel.island(),
          .pipeline = parallel.pipeline(),
          .data = parallel.data(),
          .context = parallel.context(),
          .tensor = parallel.tensor(),
          .expert = parallel.expert(),
          .expert_tensor = parallel.expert_tensor()};
}

Job::Job(MpiSession& session, const ParallelConfig& parallel, int forced_threads)
    : allocator_(std::make_unique<Allocator>(DeviceKind::kCpu)) {
  world_ = session.world(*allocator_, {.ranks_per_node = parallel.ranks_per_node()});
  threads_ = set_up_threads(*world_, forced_threads);
  mesh_ = std::make_unique<ProcessMesh>(mesh_sizes(parallel), *world_);
  if (!speaks() || !MpiSession::launched() || forced_threads > 0) return;
  const int mask = static_cast<int>(threads_.cpus.size()) * threads_.ranks_on_mask;
  if (const auto warning = binding_warning("this machine", session.local_size(), mask, true)) {
    spdlog::warn("{}", *warning);
  }
}

}  // namespace shoal
