// core/train/training_checkpoints.h: a run's state to checkpoints and back: which one, and whether it fits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/checkpoint_saver.h"
#include "core/config/config.pb.h"
#include "core/train/train_state.h"
#include "data/fingerprint.h"

namespace shoal {

// Rank 0 looks at run.dir, before anything is written: the checkpoints a run may begin from, newest first.
//   AUTO  all that are there; none where run.overwrite is set. Throws when there were some and none is whole
//   NONE         none
//   STEP         resume_step. Throws when it is not there, or run.overwrite is set
std::vector<int64_t> resume_candidates(const Config& config, FileSystem& files = disk());

class TrainingCheckpoints {
 public:
  // `config_text`: as it is kept in checkpoints. All references must outlive this.
  TrainingCheckpoints(const Config& config, std::string config_text, ModelRuntime& runtime, AdamwOptimizer& optimizer,
                      FileSystem& files = disk());

  // What is trained on, the same on every rank: kept in checkpoints, and compared with theirs from now on. Without it
  // data are not looked at.
  void set_data(DataFingerprint data) { data_ = std::move(data); }

  // Collective. Loads the first of `candidates` (the same on every rank) that every rank can load, and returns how far
  // it was; says on rank 0 what was wrong with the others. Throws when none can be loaded, and when the config or the
  // data changed in a way that matters and train.allow_changed does not name.
  Progress resume(const std::vector<int64_t>& candidates);

  // Collective: moves checkpoints of later steps aside, and tells. They belong to a future that this run does not have.
  void set_aside_after(int64_t step);
  // Collective: this run writes the folder from now on. Without it nothing is saved.
  void open_for_saving();
  bool saves() const { return saver_ != nullptr; }
  // Collective.
  void begin_save(const Progress& progress);
  bool in_flight() const { return saver_ && saver_->in_flight(); }
  bool written() const { return saver_ && saver_->written(); }
  // Collective.
  void finish_save() { saver_->finish(); }
  // CheckpointSaver::take_bad_state: the same on every rank.
  std::string take_bad_state() { return saver_ ? saver_->take_bad_state() : std::string(); }
  // Rank 0. Says what was saved, and what could not be.
  void report(bool wait_for_commit);
  // Rank 0: the step of the newest one that was loaded or saved, by this run or the one it goes on with; -1: none.
  int64_t newest_step() const { return newest_step_; }
  int64_t failed_saves() const { return failed_saves_; }
  // Of host memory, on a GPU's rank (CheckpointSaver::host_bytes).
  int64_t host_bytes() const { return saver_ ? saver_->host_bytes() : 0; }
  // Seconds that the last save took.
  double save_seconds() const { return save_seconds_; }
  // Collective: back to the `nth` newest checkpoint, or the oldest. The save in flight is finished first; those that
  // are passed over, or cannot be loaded, are moved aside.
  Progress roll_back(int64_t nth = 1);

 private:
  struct Attempt {
    Progress progress;
    RestoreNotes notes;
    std::string about_data;       // check_same_run
    std::string network_changes;  // a line each
    std::string mishap;           // why it cannot be loaded; empty: it was
  };

  std::unique_ptr<CheckpointSaver> open_saver() const;
  Attempt try_to_restore(int64_t step);

  const Config& config_;
  std::string config_text_;
  std::optional<DataFingerprint> data_;
  ModelRuntime& runtime_;
  AdamwOptimizer& optimizer_;
  FileSystem& files_;
  CheckpointFolder folder_;
  std::unique_ptr<CheckpointSaver> saver_;
  int64_t newest_step_ = -1;
  int64_t failed_saves_ = 0;
  double save_seconds_ = 0;
};

}  // namespace shoal
