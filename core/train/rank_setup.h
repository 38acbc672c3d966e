// core/train/rank_setup.h: what a rank sorts out before it computes: its threads, and that all ranks see one folder.
#pragma once

#include <filesystem>

#include "core/base/cpu_threads.h"
#include "parallel/communicator.h"

namespace shoal {

// Collective: learns the affinity masks of the ranks on this machine, plans this rank's threads and applies the plan.
// forced_threads 0: CPUs in the mask divided by the ranks that share it.
CpuThreads set_up_threads(Communicator& world, int forced_threads);

// Collective: rank 0 leaves a nonce in `folder` and every rank must find it there; throws naming host and folder.
void check_shared_folder(const std::filesystem::path& folder, Communicator& world);

}  // namespace shoal
