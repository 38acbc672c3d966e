// core/checkpoint/checkpoint_folder.h: RUN/checkpoints/: what is in it, and how a checkpoint gets there and leaves.
//
//   step-<step>/                a whole checkpoint; without COMMIT it is none (it was being removed)
//     rank-00000.safetensors …  state_file.h
//     MANIFEST.textproto        manifest.proto
//     COMMIT                    the manifest's checksum; written last, removed first
//   .tmp-<step>-<nonce>/        being written, never loaded; removed by the next run that writes here
//   .epoch-<number>             the run that may write here: an older run finds its own gone, and stops
//   aside-step-<step>-<n>/      was in the way of a checkpoint of the same step; never loaded, never removed
//   LATEST                      the newest step, for people; never trusted
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.pb.h"

namespace shoal {

class CheckpointFolder {
 public:
  explicit CheckpointFolder(const std::filesystem::path& run_dir) : path_(run_dir / "checkpoints") {}

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path of_step(int64_t step) const;
  // With a COMMIT, newest first. Whether they can be loaded is NativeCheckpoint's business.
  std::vector<int64_t> steps() const;
  // Anything that once was a checkpoint, whole or not, or aside. Of a save that never came to its end nothing counts.
  bool has_remains() const;

 private:
  std::filesystem::path path_;
};

// Removes old checkpoints, but for the newest `keep` (two at least) that open without complaint, those newer than them,
// and those whose step is a multiple of keep_every_steps (0: none). Returns the steps that went; only_tell: that would.
std::vector<int64_t> prune_checkpoints(const CheckpointFolder& folder, FileSystem& files, int64_t keep,
                                       int64_t keep_every_steps, bool only_tell = false);

// The run folder of a checkpoint by what people call it: one step-N, a run's checkpoints/, or the run folder itself.
std::filesystem::path run_of_checkpoint(const std::filesystem::path& path);

// A checkpoint by what people call it: its own folder, or a run's (or its checkpoints/) with a step; 0: the newest that
// opens. Throws when there is none.
std::filesystem::path find_checkpoint(const std::filesystem::path& path, int64_t step);

// The one process that writes to the folder: rank 0 of a run.
class CheckpointWriter {
 public:
  // Makes the folder, takes it over from older runs, and removes what they left half-done.
  CheckpointWriter(CheckpointFolder folder, FileSystem& files);

  const CheckpointFolder& folder() const { return folder_; }
  // A new folder for the files of a checkpoint of this step.
  std::filesystem::path begin(int64_t step);
  // All files are in `staging`, synced: makes it step-<step>. Throws Fenced when a newer run has taken over.
  void commit(const std::filesystem::path& staging, const Manifest& manifest);
  // Removes what begin() made.
  void abandon(const std::filesystem::path& staging);
  void retain(int64_t keep, int64_t keep_every_steps) { prune_checkpoints(folder_, files_, keep, keep_every_steps); }
  // Moves step-<step> out of the way, to aside-step-<step>-<n>.
  void set_aside(int64_t step);
  // Throws Fenced.
  void check_epoch() const;

 private:
  void claim_epoch();
  void collect_garbage();
  void write_hint(int64_t step);
  std::filesystem::path free_name_aside(int64_t step) const;

  CheckpointFolder folder_;
  FileSystem& files_;
  std::filesystem::path epoch_;
};

// Another run writes to the folder of this one.
class Fenced : public Error {
 public:
  using Error::Error;
};

}  // namespace shoal
