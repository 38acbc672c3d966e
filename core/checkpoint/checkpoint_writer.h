// core/checkpoint/checkpoint_writer.h: the one process that writes to RUN/checkpoints/: rank 0 of a run.
#pragma once

#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint/checkpoint_folder.h"
#include "core/checkpoint/manifest.pb.h"
#include "core/checkpoint/prune_checkpoints.h"

namespace shoal {

class CheckpointWriter {
 public:
  // Makes the folder, takes it over from older runs, and removes what saves and removals left half-done. All else that
  // is no whole checkpoint stays as it is; notes() name it. All calls go to `files`.
  CheckpointWriter(const CheckpointFolder& folder, FileSystem& files);

  const CheckpointFolder& folder() const { return folder_; }
  const std::vector<std::string>& notes() const { return notes_; }
  // A new folder for the files of a checkpoint of this step.
  std::filesystem::path begin(int64_t step);
  // All files are in `staging`, synced: makes it step-<step>; what was there under this name is aside afterwards, or
  // there as before. Throws Fenced when a newer run has taken over. Returned, it is there; what went wrong afterwards
  // is returned, in a sentence, and so is nothing.
  std::string commit(const std::filesystem::path& staging, const Manifest& manifest);
  // Removes what begin() made, where commit() was not called or threw; what cannot be removed now is at the next start.
  void abandon(const std::filesystem::path& staging);
  // prune_checkpoints without reading: sound is what this writer committed or was told of.
  Pruned retain(int64_t keep, int64_t keep_every_steps);
  // Every byte of it that a run needs was read and compared; or some of it was found damaged.
  void note_soundness(int64_t step, bool sound) { sound ? void(sound_.insert(step)) : void(sound_.erase(step)); }
  // Moves step-<step> out of the way, to aside-step-<step>-<n>.
  void set_aside(int64_t step);
  // Throws Fenced.
  void check_epoch() const;

 private:
  void claim_epoch();
  void collect_garbage();
  void replace(const std::filesystem::path& staging, int64_t step, const std::string& commit);
  void write_hint(int64_t step);
  std::filesystem::path free_name_aside(int64_t step) const;

  FileSystem& files_;
  CheckpointFolder folder_;
  std::filesystem::path epoch_;
  std::string nonce_;  // what epoch_ holds
  std::set<int64_t> sound_;
  std::vector<std::string> notes_;
};

// Another run writes to the folder of this one.
class Fenced : public Error {
 public:
  using Error::Error;
};

}  // namespace shoal
