// core/train/data_position.cpp: the schedule's sequences, shifted.
#include "core/train/data_position.h"

namespace shoal {

void DataPosition::go_on_from(const Progress& progress) {
  const int64_t scheduled = batches_.first_sequence(progress.step() + 1);
  sequence_shift_ = progress.sequences() - scheduled;
  token_shift_ = progress.tokens() - scheduled * seq_len_;
}

SampleRange DataPosition::sequences_of(int64_t step) const {
  return {.first = batches_.first_sequence(step) + sequence_shift_, .count = batches_.sequences(step)};
}

}  // namespace shoal
