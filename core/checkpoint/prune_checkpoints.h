// core/checkpoint/prune_checkpoints.h: which checkpoints are removed, and how.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint_folder.h"

namespace shoal {

struct PruneOptions {
  int64_t keep = 3;              // two at least
  int64_t keep_every_steps = 0;  // 0: none
  bool only_tell = false;
};

struct Pruned {
  std::vector<int64_t> removed;      // or would be
  std::vector<std::string> mishaps;  // what could not be, and why
};

// Removes old checkpoints, but for the newest `keep` that open without complaint, those newer than them, and those
// whose step is a multiple of keep_every_steps.
Pruned prune_checkpoints(const CheckpointFolder& folder, const PruneOptions& options);

// A checkpoint under its name is whole: it first gets another name, which the next run that writes here collects.
// Throws, with nothing changed, where it is no folder or holds one: that is none of ours.
void remove_checkpoint(const CheckpointFolder& folder, int64_t step);

// .tmp-<what>-<nonce>.
std::filesystem::path fresh_staging_name(const CheckpointFolder& folder, const std::string& what);

}  // namespace shoal
