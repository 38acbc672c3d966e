// core/train/memory_report.h: what a rank's memory will hold, and what it did hold.
#pragma once

#include <string>

#include "core/base/allocator.h"
#include "core/config/config.pb.h"
#include "parallel/process_mesh.h"

namespace shoal {

// Of the rank's device; and of host memory, where its device is a GPU, the copies that checkpoints are written from.
struct RankMemory {
  MemoryUse use;
  int64_t host_snapshot_bytes = 0;
};

// Peaks by category of a rank like this one on `device`, were its share of the batch the largest that any rank has and
// routing balanced: found by one step on the simulated device, beside the copy of a checkpoint where the run has some
// before its last step. No communication.
RankMemory predict_memory(const Config& config, const ProcessMesh& mesh, DType compute,
                          DeviceKind device = DeviceKind::kCpu);

// Collective: the memory of the rank with the highest peak.
struct FullestRank {
  int rank = 0;
  RankMemory memory;
};
FullestRank find_fullest_rank(const RankMemory& mine, Communicator& world);

// What to say before anything is allocated where a rank will need more than it can have (0: not known); else empty.
std::string shortage_warning(const RankMemory& predicted, int64_t memory_bytes);

// For a rank that has run out of memory: what such a rank needs by the prediction, and what this one could have. No
// communication, no exceptions: empty where even that cannot be told.
std::string describe_shortage(Config config, const ProcessMesh& mesh, DeviceKind device, int64_t memory_bytes);

// A table by category at the moment of the peak; `measured` null: the prediction alone.
std::string describe_memory(const RankMemory& predicted, const FullestRank* measured);

}  // namespace shoal
