// core/train/memory_report.h: what a rank's memory will hold, and what it did hold.
#pragma once

#include <string>

#include "core/base/allocator.h"
#include "core/config/config.pb.h"
#include "parallel/process_mesh.h"

namespace shoal {

// Peaks by category of a rank like this one, were its share of the batch the largest that any rank has and routing
// balanced: found by one step on the simulated device. No communication.
MemoryUse predict_memory(const Config& config, const ProcessMesh& mesh, DType compute);

// Collective: the use of the rank with the highest peak.
struct FullestRank {
  int rank = 0;
  MemoryUse use;
};
FullestRank find_fullest_rank(const MemoryUse& mine, Communicator& world);

// A table by category at the moment of the peak; `measured` null: the prediction alone.
std::string describe_memory(const MemoryUse& predicted, const FullestRank* measured);

}  // namespace shoal
