// core/cli/job.h: what a command that runs on all ranks starts with: the world, this rank's threads, the mesh.
//
// The MPI session is main's and outlives the job: an exception that leaves a job is told by main before MPI ends.
#pragma once

#include <memory>

#include "core/config/config.pb.h"
#include "core/train/rank_setup.h"
#include "parallel/link_model.h"
#include "parallel/mpi_session.h"
#include "parallel/process_mesh.h"

namespace shoal {

class Job {
 public:
  // Collective.
  Job(MpiSession& session, const ParallelConfig& parallel, const RunConfig& run);

  const ProcessMesh& mesh() const { return *mesh_; }
  Communicator& world() const { return *world_; }
  // This rank's memory: the model's, and the scratch of the mesh's groups.
  Allocator& allocator() const { return *allocator_; }
  const CpuThreads& threads() const { return threads_; }
  // What this rank's tensors can have of its machine's or its GPU's memory.
  int64_t memory_bytes() const { return memory_bytes_; }
  // Collective: the emulated links between nodes from now on (parallel.emulate.inter_node must be given).
  void set_inter_node_link(LinkSpeed speed) const;
  bool speaks() const { return world_->rank() == 0; }

 private:
  Allocator host_{DeviceKind::kCpu};  // for messages of a GPU's tensors
  std::unique_ptr<Allocator> allocator_;
  std::unique_ptr<Communicator> world_;
  std::unique_ptr<ProcessMesh> mesh_;
  CpuThreads threads_;
  int64_t memory_bytes_ = 0;
};

// Of a command that measures the CPU.
RunConfig cpu_run();

}  // namespace shoal
