// core/cli/job.cpp: world, threads, mesh: in that order.
#include "core/cli/job.h"

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

Job::Job(MpiSession& session, const ParallelConfig& parallel, int forced_threads) {
  world_ = session.world(scratch_, {.ranks_per_node = parallel.ranks_per_node()});
  threads_ = set_up_threads(*world_, forced_threads);
  mesh_ = std::make_unique<ProcessMesh>(mesh_sizes(parallel), *world_);
}

}  // namespace shoal
