// core/checkpoint/checkpoint_writer.cpp: synced before renamed.
#include "core/checkpoint/checkpoint_writer.h"

#include <algorithm>
#include <random>

#include "core/checkpoint/checkpoint_names.h"
#include "core/checkpoint/manifest_text.h"

namespace shoal {

namespace fs = std::filesystem;

CheckpointWriter::CheckpointWriter(const CheckpointFolder& folder, FileSystem& files)
    : files_(files), folder_(folder.path().parent_path(), files) {
  if (files_.status(folder_.path()).kind == FileKind::kAbsent) files_.make_directory(folder_.path());
  files_.sync_directory(folder_.path().parent_path());  // whoever made it may have died before
  claim_epoch();
  collect_garbage();
}

void CheckpointWriter::claim_epoch() {
  int64_t newest = 0;
  std::vector<fs::path> older;
  for (const std::string& name : files_.list(folder_.path())) {
    const std::optional<int64_t> number = number_behind(name, kEpochPrefix);
    if (!number) continue;
    newest = std::max(newest, *number);
    older.push_back(folder_.path() / name);
  }
  // Whoever comes second finds the name taken, and is the older of the two.
  epoch_ = folder_.path() / fmt::format("{}{}", kEpochPrefix, newest + 1);
  std::random_device random;
  nonce_ = fmt::format("{:08x}{:08x}{:08x}\n", random(), random(), random());
  write_synced(files_, epoch_, nonce_);
  files_.sync_directory(folder_.path());
  for (const fs::path& file : older) files_.remove_file(file);
}

void CheckpointWriter::check_epoch() const {
  // Opened and read: what a network file system last knew of its name may be old.
  try {
    if (read_small(files_, epoch_, 4096) == nonce_) return;
  } catch (const NotThere&) {
  } catch (const Error&) {
    return;  // a disk that does not answer is not another run
  }
  throw Fenced(
      fmt::format("{}: another run has taken this folder over since this one began (its {} is gone, or holds another "
                  "mark): this run stops, so that the two do not mix; give each run a run.dir of its own",
                  folder_.path().string(), epoch_.filename().string()));
}

void CheckpointWriter::collect_garbage() {
  for (const FolderEntry& entry : folder_.entries()) {
    const fs::path path = folder_.path() / entry.name;
    if (!entry.mishap.empty()) {
      notes_.push_back(
          fmt::format("{}: whether this is a checkpoint cannot be told; it stays: {}", path.string(), entry.mishap));
    }
    if (entry.kind == EntryKind::kUncommitted) {
      notes_.push_back(fmt::format("{}: has no {}, so it is no checkpoint; it stays, for you to look at and remove",
                                   path.string(), kCommitName));
    }
    if (entry.kind != EntryKind::kStaging) continue;
    try {
      remove_tree(files_, path);
    } catch (const Error& error) {
      notes_.push_back(
          fmt::format("{}: what an earlier run left half-done cannot be removed: {}", path.string(), error.what()));
    }
  }
}

fs::path CheckpointWriter::begin(int64_t step) {
  check_epoch();
  const fs::path staging = fresh_staging_name(folder_, std::to_string(step));
  files_.make_directory(staging);
  return staging;
}

std::string CheckpointWriter::commit(const fs::path& staging, const Manifest& manifest) {
  const int64_t step = manifest.progress().step();
  const std::string text = readable_manifest_text(manifest, staging / kManifestName);
  const std::string commit = commit_text(text);
  const auto put = [&](const char* name, std::string_view content) {
    const fs::path temporary = staging / fmt::format("{}.tmp", name);
    write_synced(files_, temporary, content);
    files_.rename(temporary, staging / name);
  };
  files_.sync_directory(staging);
  put(kManifestName, text);
  put(kCommitName, commit);
  files_.sync_directory(staging);
  check_epoch();
  sound_.erase(step);
  if (files_.status(folder_.of_step(step)).kind == FileKind::kAbsent) {
    files_.rename(staging, folder_.of_step(step));
  } else {
    replace(staging, step, commit);
  }
  try {
    files_.sync_directory(folder_.path());
  } catch (const Error& error) {
    return fmt::format("the checkpoint is there, but may be gone after a power failure: {}", error.what());
  }
  sound_.insert(step);
  write_hint(step);
  return {};
}

// The two change names at once. Whatever call fails or is the last before the machine stops, both are there, whole, and
// neither under a name that is collected.
void CheckpointWriter::replace(const fs::path& staging, int64_t step, const std::string& commit) {
  const fs::path place = folder_.of_step(step), aside = free_name_aside(step);
  const auto back = [&](const fs::path& from, const fs::path& to) {
    try {
      files_.rename(from, to);
    } catch (const Error&) {  // it stays aside
    }
  };
  files_.rename(staging, aside);
  try {
    if (files_.exchange(aside, place)) return;
    const fs::path old = free_name_aside(step);
    files_.rename(place, old);
    try {
      files_.rename(aside, place);
    } catch (const Error&) {
      back(old, place);
      throw;
    }
  } catch (const Error&) {
    // For abandon(), if it is the new one: a call that failed may have been carried out.
    std::string there;
    try {
      there = read_small(files_, aside / kCommitName, 4096);
    } catch (const Error&) {  // then it stays aside
    }
    if (there == commit) back(aside, staging);
    throw;
  }
}

// For people: the checkpoint is there, whether this succeeds or not.
void CheckpointWriter::write_hint(int64_t step) {
  const fs::path temporary = folder_.path() / "LATEST.tmp";
  try {
    if (files_.status(temporary).kind != FileKind::kAbsent) files_.remove_file(temporary);
    write_synced(files_, temporary, fmt::format("{}{}\n", kStepPrefix, step));
    files_.rename(temporary, folder_.path() / "LATEST");
    files_.sync_directory(folder_.path());
  } catch (const Error&) {  // written anew by the next save
  }
}

void CheckpointWriter::abandon(const fs::path& staging) {
  try {
    remove_tree(files_, staging);
  } catch (const Error&) {  // collected at the next start
  }
}

Pruned CheckpointWriter::retain(int64_t keep, int64_t keep_every_steps) {
  return prune_checkpoints(folder_, {.keep = keep, .keep_every_steps = keep_every_steps},
                           [this](int64_t step) { return sound_.contains(step); });
}

fs::path CheckpointWriter::free_name_aside(int64_t step) const {
  for (int number = 1;; ++number) {
    fs::path aside = folder_.path() / fmt::format("{}{}{}-{}", kAsidePrefix, kStepPrefix, step, number);
    if (files_.status(aside).kind == FileKind::kAbsent) return aside;
  }
}

void CheckpointWriter::set_aside(int64_t step) {
  sound_.erase(step);
  files_.rename(folder_.of_step(step), free_name_aside(step));
  files_.sync_directory(folder_.path());
}

}  // namespace shoal
