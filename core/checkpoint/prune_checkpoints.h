// core/checkpoint/prune_checkpoints.h: which checkpoints are removed, and how.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint_folder.h"

namespace shoal {

struct PruneOptions {
  int64_t keep = 3;              // two at least
  int64_t keep_every_steps = 0;  // 0: none
  bool remains = false;          // also what no run removes: aside-… and step-N without COMMIT
  bool only_tell = false;
};

struct Pruned {
  std::vector<int64_t> removed;      // or would be
  std::vector<std::string> remains;  // likewise; names
  std::vector<std::string> mishaps;  // what could not be, and why
  std::vector<std::string> damaged;  // what stays, does not count, and why
};

// Removes old checkpoints, but for the newest `keep`, those newer than them, and those whose step is a multiple of
// keep_every_steps. A checkpoint that does not open does not count, and at least two of those that stay are known to be
// sound to the last byte.
//   is_sound   says so of a step without reading it; a step of which it does not know counts when it opens.
//   (without)  every byte of those that are to stay is read and compared, and only what passes counts.
// Remains stay, as a mishap, where fewer than two checkpoints are sound: one of them may be all that there is.
Pruned prune_checkpoints(const CheckpointFolder& folder, const PruneOptions& options,
                         const std::function<bool(int64_t step)>& is_sound = {});

// A checkpoint under its name is whole: it first gets another name, which the next run that writes here collects.
// Throws, with nothing changed, where it is no folder or holds one: that is none of ours. `name`: step-N or aside-….
void remove_checkpoint(const CheckpointFolder& folder, const std::string& name);

// .tmp-<what>-<nonce>.
std::filesystem::path fresh_staging_name(const CheckpointFolder& folder, const std::string& what);

}  // namespace shoal
