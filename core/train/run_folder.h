// core/train/run_folder.h: the folder of one run: created, checked, and described, before anything expensive starts.
//
//   RUN/config.textproto   the resolved config          RUN/metrics.jsonl, RUN/tensorboard/   metrics.h
//   RUN/environment.json   machine, build, command      RUN/final/                            final_model.h
//   RUN/timeline.json      timeline.h                   RUN/summary.json                      run_summary.h
//   RUN/report.html        core/report
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/checkpoint/file_system.h"
#include "core/config/config.pb.h"

namespace shoal {

// Makes run.dir ready for a new run. Called by one rank. Throws Error, before anything is written, when the folder
//   - holds a run already and run.overwrite is off; with it on, the old folder is moved aside, whole, to run.dir.1 (.2,
//   …),
//   - is being written by a running job, even with run.overwrite,
//   - is no folder, or cannot be created or written in,
//   - has less than needed_bytes of free space; both numbers are in the message.
// Returns the folder, whose name, and those of the folders made above it, are on the disk.
std::filesystem::path prepare_run_folder(const RunConfig& config, int64_t needed_bytes, FileSystem& files = disk());

// Throws where one of `files`, which the command reads, lies in the run folder that is to be moved aside. (Not for
// RUN/config.textproto, which the new run writes again.)
void check_move_keeps(const std::filesystem::path& run, const std::vector<std::string>& files);

// True when the folder holds the files of a run that wrote a record at least, or checkpoints. What a start leaves that
// failed before (an empty metrics.jsonl) is no run: prepare_run_folder removes it.
bool holds_run(const std::filesystem::path& folder);

// The folder of a run that goes on: checks all of the above but that it holds no run. The checkpoints and the model
// that are there already count as space for those to come, which replace them.
std::filesystem::path reopen_run_folder(const RunConfig& config, int64_t needed_bytes, FileSystem& files = disk());

// Writes config.textproto and environment.json.
void describe_run(const std::filesystem::path& folder, const std::string& config_text,
                  const std::string& environment_json);

}  // namespace shoal
