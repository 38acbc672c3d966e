// core/train/timeline.h: records some steps of a run and writes RUN/timeline.json (train.timeline).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "core/base/stream.h"
#include "core/base/trace.h"
#include "core/config/config.pb.h"
#include "core/train/timeline_json.h"

namespace shoal {

// Throws when train.timeline names a rank that there is not.
void check_timeline_ranks(const TrainConfig& train, int num_ranks);

class TimelineRecorder {
 public:
  // Of this rank's stream, to `file`; does nothing without train.timeline. All of them outlive it.
  TimelineRecorder(const TrainConfig& train, Communicator& world, Stream& stream, std::filesystem::path file,
                   TimelineInfo info);
  ~TimelineRecorder();
  TimelineRecorder(const TimelineRecorder&) = delete;
  TimelineRecorder& operator=(const TimelineRecorder&) = delete;

  // Collective, before each step. The first one of train.timeline that this process comes to begins with a look at the
  // other machines' clocks, and there is another one before the file is written. What happens between two recorded
  // steps (validation) is recorded as well. A step that is done again, after a roll-back, replaces what was recorded
  // from it on; behind the written file nothing is recorded.
  void begin_step(int64_t step);
  // When all of the step is done (a GPU is waited for): it was from here to there, by steady_ns().
  void end_step(int64_t step, int64_t begin_ns, int64_t end_ns);
  // Collective, any time later. Behind the last recorded step rank 0 writes the file: true.
  bool write_after(int64_t step);
  // Collective, where no step follows: what was recorded and not written yet, if there is any; whether there was.
  bool write_rest();

  const std::filesystem::path& file() const { return file_; }

 private:
  struct Step {
    int64_t step;
    std::vector<TraceRecord> records;
  };

  bool is_recorded(int64_t step) const { return !written_ && first_step_ <= step && step <= last_step_; }

  Communicator& world_;
  Stream& stream_;
  std::filesystem::path file_;
  TimelineInfo info_;
  int64_t first_step_ = 1, last_step_ = 0;  // none
  bool records_ = false;                    // this rank does
  bool started_ = false, written_ = false;  // on all ranks alike
  std::optional<Tracer> tracer_;            // while it does
  std::vector<Step> recorded_;              // steps ascend
  std::vector<ClockOffset> clocks_;
  int64_t device_error_ns_ = 0;
};

}  // namespace shoal
