// core/checkpoint/prune_checkpoints.cpp: renamed before its first file goes.
#include "core/checkpoint/prune_checkpoints.h"

#include <unistd.h>

#include <algorithm>
#include <random>

#include "core/checkpoint/checkpoint_names.h"
#include "core/checkpoint/native_checkpoint.h"

namespace shoal {

namespace fs = std::filesystem;

fs::path fresh_staging_name(const CheckpointFolder& folder, const std::string& what) {
  std::random_device random;
  return folder.path() /
         fmt::format("{}{}-{:08x}{:08x}", kStagingPrefix, what, random(), static_cast<unsigned>(::getpid()));
}

void remove_checkpoint(const CheckpointFolder& folder, const std::string& name) {
  FileSystem& files = folder.files();
  const fs::path place = folder.path() / name;
  if (files.status(place).kind != FileKind::kFolder) fail("{}: is no folder; it is not removed", place.string());
  for (const std::string& inside : files.list(place)) {
    if (files.status(place / inside).kind != FileKind::kFolder) continue;
    fail("{}: holds a folder, {}, which no checkpoint does; it is not removed: look at it, and remove it by hand",
         place.string(), inside);
  }
  const fs::path gone = fresh_staging_name(folder, "gone-" + name);
  files.rename(place, gone);
  files.sync_directory(folder.path());
  remove_tree(files, gone);
}

Pruned prune_checkpoints(const CheckpointFolder& folder, const PruneOptions& options,
                         const std::function<bool(int64_t step)>& is_sound) {
  constexpr int64_t kLeast = 2;
  const int64_t keep = std::max(options.keep, kLeast);
  int64_t counted = 0, sound = 0;
  Pruned pruned;
  const auto remove = [&](const std::string& name) {
    try {
      if (!options.only_tell) remove_checkpoint(folder, name);
      return true;
    } catch (const Error& error) {
      pruned.mishaps.emplace_back(error.what());
      return false;
    }
  };
  for (const int64_t step : folder.steps()) {
    if (counted >= keep && sound >= kLeast) {
      if (options.keep_every_steps > 0 && step % options.keep_every_steps == 0) continue;
      if (remove(folder.of_step(step).filename())) pruned.removed.push_back(step);
      continue;
    }
    try {
      const NativeCheckpoint opened(folder.of_step(step), folder.files());
      if (!is_sound) opened.verify();
      ++counted;
      if (!is_sound || is_sound(step)) ++sound;
    } catch (const Error& error) {  // stays, for a person to look at
      pruned.damaged.emplace_back(error.what());
    }
  }
  if (!options.remains) return pruned;
  for (const FolderEntry& entry : folder.entries()) {
    if (entry.kind != EntryKind::kAside && entry.kind != EntryKind::kUncommitted) continue;
    if (sound < kLeast) {
      pruned.mishaps.push_back(fmt::format("{}: stays, since fewer than two checkpoints are sound and it may be needed",
                                           (folder.path() / entry.name).string()));
    } else if (remove(entry.name)) {
      pruned.remains.push_back(entry.name);
    }
  }
  return pruned;
}

}  // namespace shoal
