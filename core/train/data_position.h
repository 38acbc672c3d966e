// core/train/data_position.h: which training sequences a step takes.
#pragma once

#include <cstdint>

#include "core/checkpoint/manifest.pb.h"
#include "data/loader.h"
#include "optim/batch_schedule.h"

namespace shoal {

// Steps take the sequences in their order, each as many as the schedule gives it; a run that goes on takes up where its
// checkpoint stopped, also when the schedule has become another one since.
class DataPosition {
 public:
  DataPosition(const BatchSchedule& batches, int64_t seq_len) : batches_(batches), seq_len_(seq_len) {}

  // Goes on behind a checkpoint. One that has no sequences behind it (an imported model's) starts with the first.
  void go_on_from(const Progress& progress);
  // The step behind `step` starts at sequence `first`, whatever was seen before.
  void skip_to(int64_t step, int64_t first) { sequence_shift_ = first - batches_.first_sequence(step + 1); }

  SampleRange sequences_of(int64_t step) const;
  // Behind `step`, those passed over included.
  int64_t sequences_behind(int64_t step) const { return batches_.first_sequence(step + 1) + sequence_shift_; }
  // Trained on behind `step`.
  int64_t tokens_behind(int64_t step) const { return batches_.first_sequence(step + 1) * seq_len_ + token_shift_; }

 private:
  BatchSchedule batches_;
  int64_t seq_len_;
  // Against a run that had this schedule from its start, and passed over nothing.
  int64_t sequence_shift_ = 0;
  int64_t token_shift_ = 0;
};

}  // namespace shoal
