// core/checkpoint/checkpoint_folder.h: RUN/checkpoints/: what is in it, and how a checkpoint gets there and leaves.
//
//   step-<step>/                a whole checkpoint; without COMMIT it is none
//     rank-00000.safetensors …  state_file.h
//     MANIFEST.textproto        manifest.proto
//     COMMIT                    the manifest's checksum; written last
//   .tmp-<step>-<nonce>/        being written, never loaded; removed by the next run that writes here
//   .tmp-gone-step-<step>-…/    being removed; likewise
//   .epoch-<number>             the run that may write here: an older run finds its own gone or another's, and stops
//   aside-step-<step>-<n>/      was in the way of a checkpoint of the same step, or later than one a run went back to;
//                               never loaded, never removed but by `shoal checkpoint prune --remains`
//   LATEST                      the newest step, for people; never trusted
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.pb.h"

namespace shoal {

enum class EntryKind {
  kCheckpoint,   // step-N with a COMMIT; also where the disk does not say whether it has one: loading it will
  kUncommitted,  // step-N without: never finished, damaged, or partly removed by hand
  kStaging,      // .tmp-…
  kAside,        // aside-…
  kOther,
};

// One name of the folder.
struct FolderEntry {
  std::string name;
  EntryKind kind = EntryKind::kOther;
  int64_t step = -1;   // of a step-N
  std::string mishap;  // what kept the disk from saying whether there is a COMMIT
};

class CheckpointFolder {
 public:
  explicit CheckpointFolder(const std::filesystem::path& run_dir, FileSystem& files = disk())
      : path_(run_dir / "checkpoints"), files_(&files) {}

  const std::filesystem::path& path() const { return path_; }
  FileSystem& files() const { return *files_; }
  std::filesystem::path of_step(int64_t step) const;
  // By name.
  std::vector<FolderEntry> entries() const;
  // Of entries that are a kCheckpoint, newest first. Whether they can be loaded is NativeCheckpoint's business.
  std::vector<int64_t> steps() const;
  // Anything that once was a checkpoint, whole or not, or aside. Of a save that never came to its end nothing counts.
  bool has_remains() const;

 private:
  std::filesystem::path path_;
  FileSystem* files_;
};

// Whether it is a checkpoint's own folder: has a manifest, or a COMMIT at least. Throws where the disk does not say.
bool is_checkpoint_folder(const std::filesystem::path& path);

// The run folder of a checkpoint by what people call it: one step-N, a run's checkpoints/, or the run folder itself.
std::filesystem::path run_of_checkpoint(const std::filesystem::path& path);

// A checkpoint by what people call it: its own folder, or a run's (or its checkpoints/) with a step; -1: the newest
// that opens. Throws when there is none.
std::filesystem::path find_checkpoint(const std::filesystem::path& path, int64_t step);

}  // namespace shoal
