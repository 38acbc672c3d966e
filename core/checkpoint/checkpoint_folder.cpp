// core/checkpoint/checkpoint_folder.cpp: names told apart; what the disk does not say is not taken for absent.
#include "core/checkpoint/checkpoint_folder.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <optional>

#include "core/checkpoint/checkpoint_names.h"
#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"

namespace shoal {

namespace fs = std::filesystem;

fs::path CheckpointFolder::of_step(int64_t step) const { return path_ / fmt::format("{}{}", kStepPrefix, step); }

std::vector<FolderEntry> CheckpointFolder::entries() const {
  std::vector<FolderEntry> entries;
  for (const std::string& name : files_->list(path_)) {
    FolderEntry& entry = entries.emplace_back();
    entry.name = name;
    if (name.starts_with(kStagingPrefix)) {
      entry.kind = EntryKind::kStaging;
    } else if (name.starts_with(kAsidePrefix)) {
      entry.kind = EntryKind::kAside;
    } else if (const std::optional<int64_t> step = number_behind(name, kStepPrefix)) {
      entry.step = *step;
      entry.kind = EntryKind::kCheckpoint;
      try {
        const FileStatus commit = files_->status(path_ / name / kCommitName);
        if (commit.kind == FileKind::kAbsent) entry.kind = EntryKind::kUncommitted;
      } catch (const Error& error) {
        entry.mishap = error.what();
      }
    }
  }
  return entries;
}

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> steps;
  for (const FolderEntry& entry : entries()) {
    if (entry.kind == EntryKind::kCheckpoint) steps.push_back(entry.step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

bool CheckpointFolder::has_remains() const {
  const std::vector<std::string> names = files_->list(path_);
  return std::ranges::any_of(
      names, [](std::string_view name) { return name.starts_with(kStepPrefix) || name.starts_with(kAsidePrefix); });
}

bool is_checkpoint_folder(const fs::path& path) {
  const auto has = [&](const char* name) { return disk().status(path / name).kind != FileKind::kAbsent; };
  return has(kManifestName) || has(kCommitName);
}

fs::path run_of_checkpoint(const fs::path& path) {
  const fs::path given = (fs::absolute(path) / "").lexically_normal().parent_path();  // without a slash at its end
  if (is_checkpoint_folder(given)) return given.parent_path().parent_path();
  return given.filename() == "checkpoints" ? given.parent_path() : given;
}

fs::path find_checkpoint(const fs::path& path, int64_t step) {
  if (is_checkpoint_folder(path)) {
    const int64_t own = step >= 0 ? NativeCheckpoint(path).manifest().progress().step() : step;
    if (own == step) return path;
    fail("{}: is one checkpoint, of step {}, and step {} was asked for; name its run's folder", path.string(), own,
         step);
  }
  const CheckpointFolder folder(run_of_checkpoint(path));
  const std::vector<int64_t> steps = folder.steps();
  if (steps.empty()) {
    fail("{}: holds no checkpoint; expected a run folder with checkpoints/step-N, or such a step-N itself",
         path.string());
  }
  std::string mishaps;
  for (const int64_t candidate : steps) {
    if (step >= 0 && candidate != step) continue;
    if (step >= 0) return folder.of_step(step);
    try {
      const NativeCheckpoint opened(folder.of_step(candidate));
      if (!mishaps.empty()) {
        spdlog::warn("{}: the one of step {} is taken, for newer ones do not open: {}", path.string(), candidate,
                     mishaps);
      }
      return folder.of_step(candidate);
    } catch (const Error& error) {
      mishaps += fmt::format("{}{}", mishaps.empty() ? "" : "; ", error.what());
    }
  }
  if (step >= 0) fail("{}: has no checkpoint of step {}; the newest is of step {}", path.string(), step, steps.front());
  fail("{}: none of its checkpoints can be used: {}", path.string(), mishaps);
}

}  // namespace shoal
