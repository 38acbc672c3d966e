// core/train/open_run.h: where a run begins: what there is to go on from, and the folder that it writes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/base/dtype.h"
#include "core/config/config.pb.h"
#include "parallel/communicator.h"

namespace shoal {

// Collective. Steps of the checkpoints to go on from, the likeliest first, as rank 0 finds them (resume_candidates).
std::vector<int64_t> find_checkpoints(const Config& config, Communicator& world, Allocator& allocator);

// Whether a run folder that is there already is moved aside for this run, if no checkpoint is gone on from: because it
// says run.overwrite, or because the run there would have saved and ended before it did.
bool starts_anew(const Config& config);

// Collective. Rank 0 makes the folder, with room for everything that the run will write, or opens that of a run that
// goes on; every rank sees that it is shared. A refusal ends the job.
std::filesystem::path open_run_folder(const Config& config, DType compute, bool goes_on, Communicator& world);

}  // namespace shoal
