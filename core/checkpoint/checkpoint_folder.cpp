// core/checkpoint/checkpoint_folder.cpp: synced before renamed, uncommitted before removed.
#include "core/checkpoint/checkpoint_folder.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <random>
#include <system_error>

#include "core/checkpoint/manifest_text.h"
#include "core/checkpoint/native_checkpoint.h"

namespace shoal {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStep = "step-", kStaging = ".tmp-", kEpoch = ".epoch-", kAside = "aside-";

// The number behind `prefix`, when that is all there is.
std::optional<int64_t> number_behind(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view digits = name.substr(prefix.size());
  if (digits.empty() || digits.size() > 18 || (digits.size() > 1 && digits.front() == '0')) return std::nullopt;
  int64_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  if (error != std::errc() || end != digits.data() + digits.size() || number < 0) return std::nullopt;
  return number;
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    names.push_back(entry->path().filename().string());
  }
  if (error) fail("{}: cannot be listed: {}", folder.string(), error.message());
  std::sort(names.begin(), names.end());
  return names;
}

bool is_committed(const fs::path& checkpoint) {
  std::error_code ignored;
  return fs::exists(fs::symlink_status(checkpoint / kCommitName, ignored));
}

}  // namespace

fs::path CheckpointFolder::of_step(int64_t step) const { return path_ / fmt::format("{}{}", kStep, step); }

std::vector<int64_t> CheckpointFolder::steps() const {
  std::vector<int64_t> steps;
  for (const std::string& name : names_in(path_)) {
    const std::optional<int64_t> step = number_behind(name, kStep);
    if (step && is_committed(path_ / name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

bool CheckpointFolder::has_remains() const {
  const std::vector<std::string> names = names_in(path_);
  return std::ranges::any_of(names,
                             [](std::string_view name) { return name.starts_with(kStep) || name.starts_with(kAside); });
}

CheckpointWriter::CheckpointWriter(CheckpointFolder folder, FileSystem& files)
    : folder_(std::move(folder)), files_(files) {
  std::error_code ignored;
  if (!fs::is_directory(folder_.path(), ignored)) {
    files_.make_directory(folder_.path());
    files_.sync_directory(folder_.path().parent_path());
  }
  claim_epoch();
  collect_garbage();
}

void CheckpointWriter::claim_epoch() {
  int64_t newest = 0;
  std::vector<fs::path> older;
  for (const std::string& name : names_in(folder_.path())) {
    const std::optional<int64_t> number = number_behind(name, kEpoch);
    if (!number) continue;
    newest = std::max(newest, *number);
    older.push_back(folder_.path() / name);
  }
  // Whoever comes second finds the name taken, and is the older of the two.
  epoch_ = folder_.path() / fmt::format("{}{}", kEpoch, newest + 1);
  files_.create(epoch_)->close();
  files_.sync_directory(folder_.path());
  for (const fs::path& file : older) files_.remove_file(file);
}

void CheckpointWriter::check_epoch() const {
  std::error_code error;
  if (fs::exists(epoch_, error) || error) return;  // a disk that does not answer is not another run
  throw Fenced(
      fmt::format("{}: another run has taken this folder over since this one began ({} is gone): this run stops, so "
                  "that the two do not mix; give each run a run.dir of its own",
                  folder_.path().string(), epoch_.filename().string()));
}

void CheckpointWriter::collect_garbage() {
  for (const std::string& name : names_in(folder_.path())) {
    const bool unfinished = name.starts_with(kStaging);
    const bool half_removed = number_behind(name, kStep) && !is_committed(folder_.path() / name);
    if (unfinished || half_removed) remove_tree(files_, folder_.path() / name);
  }
}

fs::path CheckpointWriter::begin(int64_t step) {
  check_epoch();
  std::random_device random;
  const fs::path staging =
      folder_.path() / fmt::format("{}{}-{:08x}{:08x}", kStaging, step, random(), static_cast<unsigned>(::getpid()));
  files_.make_directory(staging);
  return staging;
}

void CheckpointWriter::commit(const fs::path& staging, const Manifest& manifest) {
  const int64_t step = manifest.progress().step();
  const std::string text = manifest_text(manifest);
  const auto put = [&](const char* name, std::string_view content) {
    const fs::path temporary = staging / fmt::format("{}.tmp", name);
    write_synced(files_, temporary, content);
    files_.rename(temporary, staging / name);
  };
  files_.sync_directory(staging);
  put(kManifestName, text);
  put(kCommitName, commit_text(text));
  files_.sync_directory(staging);
  check_epoch();
  const fs::path place = folder_.of_step(step);
  std::error_code ignored;
  const bool taken = fs::exists(fs::symlink_status(place, ignored));
  const bool swapped = taken && files_.exchange(staging, place);
  if (taken && !swapped) set_aside(step);
  if (!swapped) files_.rename(staging, place);
  files_.sync_directory(folder_.path());
  if (swapped) {
    try {
      files_.rename(staging, free_name_aside(step));
    } catch (const Error&) {  // the new one is there; what it replaced is collected at the next start
    }
  }
  write_hint(step);
}

// For people: the checkpoint is there, whether this succeeds or not.
void CheckpointWriter::write_hint(int64_t step) {
  const fs::path temporary = folder_.path() / "LATEST.tmp";
  std::error_code ignored;
  try {
    if (fs::exists(temporary, ignored)) files_.remove_file(temporary);
    write_synced(files_, temporary, fmt::format("{}{}\n", kStep, step));
    files_.rename(temporary, folder_.path() / "LATEST");
    files_.sync_directory(folder_.path());
  } catch (const Error&) {  // written anew by the next save
  }
}

void CheckpointWriter::abandon(const fs::path& staging) { remove_tree(files_, staging); }

fs::path CheckpointWriter::free_name_aside(int64_t step) const {
  for (int number = 1;; ++number) {
    fs::path aside = folder_.path() / fmt::format("{}{}{}-{}", kAside, kStep, step, number);
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(aside, ignored))) return aside;
  }
}

void CheckpointWriter::set_aside(int64_t step) {
  files_.rename(folder_.of_step(step), free_name_aside(step));
  files_.sync_directory(folder_.path());
}

std::vector<int64_t> prune_checkpoints(const CheckpointFolder& folder, FileSystem& files, int64_t keep,
                                       int64_t keep_every_steps, bool only_tell) {
  int64_t good = 0;
  std::vector<int64_t> removed;
  for (const int64_t step : folder.steps()) {
    if (good >= std::max<int64_t>(keep, 2)) {
      if (keep_every_steps > 0 && step % keep_every_steps == 0) continue;
      if (!only_tell) remove_tree(files, folder.of_step(step));
      removed.push_back(step);
      continue;
    }
    try {
      const NativeCheckpoint opened(folder.of_step(step));
      ++good;
    } catch (const Error&) {  // stays, for a person to look at; it does not count
    }
  }
  return removed;
}

fs::path run_of_checkpoint(const fs::path& path) {
  const fs::path given = (fs::absolute(path) / "").lexically_normal().parent_path();  // without a slash at its end
  std::error_code ignored;
  if (fs::exists(given / kManifestName, ignored)) return given.parent_path().parent_path();
  return given.filename() == "checkpoints" ? given.parent_path() : given;
}

fs::path find_checkpoint(const fs::path& path, int64_t step) {
  std::error_code ignored;
  if (fs::exists(path / kManifestName, ignored)) return path;
  const CheckpointFolder folder(run_of_checkpoint(path));
  const std::vector<int64_t> steps = folder.steps();
  if (steps.empty()) {
    fail("{}: holds no checkpoint; expected a run folder with checkpoints/step-N, or such a step-N itself",
         path.string());
  }
  std::string mishaps;
  for (const int64_t candidate : steps) {
    if (step != 0 && candidate != step) continue;
    if (step != 0) return folder.of_step(step);
    try {
      const NativeCheckpoint opened(folder.of_step(candidate));
      return folder.of_step(candidate);
    } catch (const Error& error) {
      mishaps += fmt::format("\n  {}", error.what());
    }
  }
  if (step != 0) fail("{}: has no checkpoint of step {}; the newest is of step {}", path.string(), step, steps.front());
  fail("{}: none of its checkpoints can be used:{}", path.string(), mishaps);
}

}  // namespace shoal
