// core/train/run_folder.cpp: refuse first, write afterwards.
#include "core/train/run_folder.h"

#include <spdlog/spdlog.h>

#include <array>
#include <system_error>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/checkpoint/append_file.h"
#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/new_folder.h"
#include "core/train/progress.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;

// run.dir.1, run.dir.2, …: the first name that is free.
fs::path free_name_beside(const fs::path& folder) {
  for (int number = 1;; ++number) {
    const fs::path name = fmt::format("{}.{}", folder.string(), number);
    std::error_code ignored;
    if (!fs::exists(fs::symlink_status(name, ignored))) return name;
  }
}

void check_space(const fs::path& folder, int64_t needed_bytes) {
  std::error_code error;
  const fs::path on = existing_ancestor(folder);
  const fs::space_info space = fs::space(on, error);
  if (error) fail("run.dir {}: the free space of {} cannot be read: {}", folder.string(), on.string(), error.message());
  if (needed_bytes > 0 && space.available < static_cast<uintmax_t>(needed_bytes)) {
    fail(
        "run.dir {}: no space left for the run folder: it needs {} ({} bytes), {} ({} bytes) are available on its file "
        "system; free some, or set run.dir to another disk",
        folder.string(), format_bytes(needed_bytes), needed_bytes, format_bytes(static_cast<int64_t>(space.available)),
        space.available);
  }
}

// Of what lies in a folder, as far as it can be seen.
int64_t bytes_of_files(const fs::path& folder) {
  int64_t bytes = 0;
  std::error_code error;
  for (auto entry = fs::recursive_directory_iterator(folder, error); !error && entry != end(entry);
       entry.increment(error)) {
    std::error_code ignored;
    if (!entry->is_regular_file(ignored)) continue;
    const auto size = entry->file_size(ignored);
    if (!ignored) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

// Writes and removes a small file: permissions, quotas and read-only disks show here, not after an hour of training.
void check_writable(const fs::path& folder) {
  try {
    const fs::path probe = folder / ".write-probe";
    write_text_file(probe, std::string(4096, 'x'));
    std::error_code ignored;
    fs::remove(probe, ignored);
  } catch (const Error& error) {
    fail("run.dir {}: cannot be written in: {}; set run.dir to a folder of yours", folder.string(), error.what());
  }
}

constexpr std::array kRunFiles{"metrics.jsonl", "config.textproto", "environment.json", "tensorboard", "final"};

// Also where everything else is gone, or was never written: they are what a run is made for.
bool holds_checkpoints(const fs::path& folder) { return CheckpointFolder(folder).has_remains(); }

// What a start leaves that failed before its first record: metrics.jsonl is made first, and empty. (After a power
// failure that of a long run may be empty, too.)
bool is_failed_start(const fs::path& folder) {
  std::error_code ignored;
  const fs::path metrics = folder / "metrics.jsonl";
  return fs::is_regular_file(metrics, ignored) && fs::file_size(metrics, ignored) == 0 &&
         !fs::exists(folder / "final", ignored) && !holds_checkpoints(folder) && !is_being_appended_to(metrics);
}

}  // namespace

bool holds_run(const fs::path& folder) {
  if (is_failed_start(folder)) return false;
  if (holds_checkpoints(folder)) return true;
  for (const char* name : kRunFiles) {
    std::error_code ignored;
    if (fs::exists(folder / name, ignored)) return true;
  }
  return false;
}

namespace {

// Refuses what is no folder, or another job's.
fs::path usable_folder(const RunConfig& config) {
  if (config.dir().empty()) fail("run.dir is empty; set it to the folder the run shall write, such as runs/first");
  // Without a trailing slash, and absolute, so that its parent and its neighbours have names.
  fs::path folder = fs::absolute(config.dir()).lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();

  std::error_code error;
  const fs::file_status status = fs::status(folder, error);
  if (fs::is_symlink(fs::symlink_status(folder, error))) {
    if (!fs::exists(status)) {
      fail("run.dir {}: is a link to {}, which is not there; make that folder, or remove the link", folder.string(),
           fs::read_symlink(folder, error).string());
    }
    folder = fs::canonical(folder, error);  // moved aside or made anew is what it leads to, on the same disk
    if (error) fail("run.dir {}: where it leads to cannot be read: {}", config.dir(), error.message());
  }
  if (fs::exists(status) && !fs::is_directory(status)) {
    fail("run.dir {}: is not a folder; set run.dir to another name", folder.string());
  }
  if (is_being_appended_to(folder / "metrics.jsonl")) {
    fail("run.dir {}: another job is writing there; wait for its end, or set run.dir to another folder",
         folder.string());
  }
  return folder;
}

// Makes it where it is missing, with those above it.
void make_synced(const fs::path& folder, FileSystem& files) {
  const std::string mishap = make_folder_synced(folder, files, fmt::format("run.dir {}", folder.string()));
  if (!mishap.empty()) spdlog::warn("{}", mishap);
}

}  // namespace

fs::path reopen_run_folder(const RunConfig& config, int64_t needed_bytes, FileSystem& files) {
  const fs::path folder = usable_folder(config);
  check_space(folder, needed_bytes - bytes_of_files(folder / "checkpoints") - bytes_of_files(folder / "final"));
  make_synced(folder, files);  // whoever made it may have died before its name was on the disk
  check_writable(folder);
  return folder;
}

fs::path prepare_run_folder(const RunConfig& config, int64_t needed_bytes, FileSystem& files) {
  const fs::path folder = usable_folder(config);
  std::error_code error;
  const bool occupied = fs::exists(folder, error) && holds_run(folder);
  if (occupied && !config.overwrite()) {
    fail(
        "run.dir {}: already holds a run; set run.dir to another folder, or run.overwrite=true to move the old run "
        "aside to {}",
        folder.string(), free_name_beside(folder).string());
  }
  check_space(folder, needed_bytes);
  if (occupied) {
    const fs::path inside = fs::current_path(error).lexically_relative(fs::canonical(folder, error));
    if (!error && !inside.empty() && *inside.begin() != "..") {
      fail("run.dir {}: the old run is to be moved aside, and this command was started inside it; start it elsewhere",
           folder.string());
    }
    const fs::path aside = free_name_beside(folder);
    fs::rename(folder, aside, error);
    if (error) {
      fail("run.dir {}: the old run cannot be moved aside to {}: {}", folder.string(), aside.string(), error.message());
    }
    spdlog::warn("run.dir {}: the run that was there is moved aside to {}", folder.string(), aside.string());
  }
  if (is_failed_start(folder)) {
    for (const char* name : kRunFiles) fs::remove_all(folder / name, error);
  }
  make_synced(folder, files);
  check_writable(folder);
  return folder;
}

void check_move_keeps(const fs::path& run, const std::vector<std::string>& files) {
  std::error_code error;
  const fs::path folder = fs::canonical(run, error);
  if (error || !holds_run(folder)) return;
  for (const std::string& file : files) {
    const fs::path path = fs::weakly_canonical(file, error);
    const fs::path inside = path.lexically_relative(folder);
    if (error || inside.empty() || *inside.begin() == ".." || inside == "config.textproto") continue;
    fail(
        "{} is moved aside before this run starts anew, and with it {}, which this command reads; set run.dir to "
        "another "
        "folder, or name a copy of that file elsewhere",
        run.string(), file);
  }
}

void describe_run(const fs::path& folder, const std::string& config_text, const std::string& environment_json) {
  write_text_file(folder / "config.textproto", config_text);
  write_text_file(folder / "environment.json", environment_json + "\n");
}

}  // namespace shoal
