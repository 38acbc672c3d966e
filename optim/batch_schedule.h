// optim/batch_schedule.h: how many sequences every step takes, and so which ones: the data position is one integer.
#pragma once

#include <cstdint>

#include "core/config/config.pb.h"

namespace shoal {

// Constant at train.global_batch, or growing linearly to it from train.ramp_from_batch over the first ramp_fraction of
// the steps (DeepSeek-V3 grows from 3072 to 15360 sequences). Steps are 1-based.
class BatchSchedule {
 public:
  // Throws Error when the numbers make no schedule (a ramp downwards, an empty batch, sequences beyond 2^63).
  explicit BatchSchedule(const TrainConfig& config);

  // Sequences of one step over all ranks.
  int64_t sequences(int64_t step) const;
  // Sequences of all steps before `step`: the global index of its first one. first_sequence(steps + 1) is the total.
  int64_t first_sequence(int64_t step) const;
  int64_t total_sequences() const { return first_sequence(steps_ + 1); }

  int64_t steps() const { return steps_; }
  // Steps smaller than the full batch because of the ramp.
  int64_t ramp_steps() const { return ramp_steps_; }

 private:
  int64_t steps_;
  int64_t full_;
  int64_t from_;
  int64_t ramp_steps_;
};

}  // namespace shoal
