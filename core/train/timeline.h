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

  // Collective, before each step. The first recorded step begins with a look at the other machines' clocks. What
  // happens between two recorded steps (validation) is recorded as well.
  void begin_step(int64_t step);
  // When all of the step is done (a GPU is waited for): it was from here to there, by steady_ns().
  void end_step(int64_t step, int64_t begin_ns, int64_t end_ns);
  // Collective, any time later. Behind the last recorded step rank 0 writes the file: true.
  bool write_after(int64_t step);

  const std::filesystem::path& file() const { return file_; }

 private:
  bool is_recorded(int64_t step) const { return first_step_ <= step && step <= last_step_; }

  Communicator& world_;
  Stream& stream_;
  std::filesystem::path file_;
  TimelineInfo info_;
  int64_t first_step_ = 1, last_step_ = 0;  // none
  bool records_ = false;                    // this rank does
  std::optional<Tracer> tracer_;            // while it does
  std::vector<TraceRecord> records_so_far_;
  std::vector<ClockOffset> clocks_;
  int64_t device_error_ns_ = 0;
};

}  // namespace shoal
