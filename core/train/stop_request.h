// core/train/stop_request.h: when a run must save and end before its last step: a signal, a time limit, Slurm.
//
//   USR1, USR2, TERM   of any rank. mpirun hands on USR1 and USR2, and kills a job 2 s after its own TERM: send it USR2
//   train.stop_after_minutes
//   SLURM_JOB_END_TIME (seconds since 1970)
//
// Nothing stops at once: the ranks agree between two steps, save, and end with kRequeueExitCode.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "core/config/config.pb.h"

namespace shoal {

// "Start me again": the run is not finished.
constexpr int kRequeueExitCode = 85;

class StopRequest {
 public:
  using Clock = std::chrono::system_clock;

  // Handles the signals from now on, for the whole process.
  explicit StopRequest(const TrainConfig& config);
  ~StopRequest();
  StopRequest(const StopRequest&) = delete;
  StopRequest& operator=(const StopRequest&) = delete;

  // A step, and the save after it, take about so long: it is time when the next step would end too late.
  // Why to stop, for people; empty: go on.
  std::string reason(std::chrono::duration<double> next_step_and_save) const;

  // The last of these signals that came to this process; 0: none.
  static int last_signal();

  // When Slurm ends the job, from the text of SLURM_JOB_END_TIME.
  static std::optional<Clock::time_point> parse_end_time(const char* text);

 private:
  std::optional<Clock::time_point> stop_at_;  // train.stop_after_minutes
  std::optional<Clock::time_point> slurm_end_;
};

}  // namespace shoal
