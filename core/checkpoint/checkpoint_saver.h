// core/checkpoint/checkpoint_saver.h: all ranks' state to one checkpoint, while training goes on.
//
//   begin():   rank 0 makes the staging folder; every rank copies its pieces to host memory and starts to write them
//   written(): this rank's file is on its disk, or has failed
//   finish():  once all are: what the files hold goes to rank 0, which writes MANIFEST and COMMIT beside training
//
// A save that fails for lack of room or a broken disk is dropped, told, and counted: training goes on. A state with
// weights or moments that are no numbers is no checkpoint: whoever writes it finds them, and every rank hears of it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/checkpoint/checkpoint_writer.h"
#include "core/checkpoint/state_snapshot.h"
#include "core/config/config.pb.h"
#include "parallel/communicator.h"

namespace shoal {

// What came of a save.
struct SaveReport {
  int64_t step = 0;
  int64_t bytes = 0;        // all ranks
  double seconds = 0;       // from begin() to the commit
  std::string path = {};    // of the checkpoint, where it was committed
  std::string mishap = {};  // why not; where it was, what went wrong afterwards, in a sentence
};

class CheckpointSaver {
 public:
  // Collective. `world` carries a few small messages, of `allocator`'s device, at begin() and finish(). Rank 0 owns the
  // folder from now on. The copy that is written comes from `allocator` too, but for a GPU's.
  CheckpointSaver(const std::filesystem::path& run_dir, const CheckpointConfig& config, Communicator& world,
                  Allocator& allocator, FileSystem& files);
  // Waits for what is being written; a save nobody finished is dropped.
  ~CheckpointSaver();
  CheckpointSaver(const CheckpointSaver&) = delete;
  CheckpointSaver& operator=(const CheckpointSaver&) = delete;

  // Rank 0: what is in the folder that is no checkpoint and stays, each in a sentence; nothing elsewhere.
  std::vector<std::string> notes() const { return writer_ ? writer_->notes() : std::vector<std::string>(); }
  // Rank 0: moves checkpoints of later steps aside, before a run goes on from an earlier one; which, newest first.
  // Nothing elsewhere.
  std::vector<int64_t> set_aside_after(int64_t step);

  // Rank 0: every rank loaded the checkpoint of this step, so that retention can rely on it; or one could not. Nothing
  // elsewhere.
  void note_loaded(int64_t step, bool could) {
    if (writer_) writer_->note_soundness(step, could);
  }

  // Collective, at a step boundary. `head` (rank 0's counts): progress, layout and config. The values of `pieces` may
  // change as soon as this returns. A save still in flight is finished first. Nothing is saved where the very same
  // checkpoint is there and sound.
  void begin(const Manifest& head, const std::vector<StatePiece>& pieces);
  bool in_flight() const { return in_flight_; }
  bool written() const;
  // Collective, with a save in flight. Blocks until every rank has written.
  void finish();
  // Of the first save, since last asked, whose state was not finite: which value on which rank, in a sentence, the same
  // on every rank; empty: there was none. Such a save leaves nothing, and is in no report.
  std::string take_bad_state() { return std::exchange(bad_state_, {}); }
  // Rank 0: what has been committed, or has failed, since last asked. `wait`: also what still is being committed.
  std::vector<SaveReport> take_reports(bool wait_for_commit);
  // On a GPU's rank: of the copy, which lies in host memory; 0 elsewhere.
  int64_t host_bytes() const { return host_.use().total_peak_bytes; }

 private:
  struct Part;    // this rank's file, being written
  struct Commit;  // rank 0: manifest and retention, being written
  bool agree_to_begin(int64_t step, int64_t bytes);
  bool is_saved_already();
  std::string retain();
  void drop(std::string mishap);
  void end_commit();

  CheckpointConfig config_;
  Communicator& world_;
  Allocator& allocator_;
  FileSystem& files_;
  std::optional<CheckpointWriter> writer_;  // rank 0
  CheckpointFolder folder_;
  Allocator host_{DeviceKind::kCpu};  // used when allocator_ is a GPU's
  StateSnapshot snapshot_;
  bool in_flight_ = false;
  Manifest head_;
  std::filesystem::path staging_;
  int64_t total_bytes_ = 0;
  double began_s_ = 0;
  std::unique_ptr<Part> part_;
  std::unique_ptr<Commit> commit_;
  std::vector<SaveReport> reports_;
  std::string bad_state_;
};

}  // namespace shoal
