// tests/checkpoint/checkpoint_run.h: a run's folder of small checkpoints, on a disk that need not sync.
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "tests/checkpoint/checkpoint_states.h"
#include "tests/temporary_folder.h"

namespace shoal {

struct CheckpointRun {
  TemporaryFolder run;
  QuickDisk files;
  CheckpointFolder folder{run.path()};

  void save(CheckpointWriter& writer, int64_t step) { save_state(writer, files, small_state(), step); }
  std::set<std::string> names() const {
    std::set<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
      names.insert(entry.path().filename().string());
    return names;
  }
  bool good(int64_t step) const { return fault_of(folder.of_step(step), small_state(), step).empty(); }
};

}  // namespace shoal
