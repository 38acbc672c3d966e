// tests/train/data_position_test.cpp: every sequence once, in order, whatever the schedule becomes.
#include "core/train/data_position.h"

#include <catch2/catch.hpp>

using namespace shoal;

namespace {

constexpr int64_t kSeqLen = 8;

BatchSchedule schedule(int64_t steps, int64_t batch, int64_t from = 0) {
  TrainConfig config;
  config.set_steps(steps);
  config.set_global_batch(batch);
  if (from > 0) {
    config.set_ramp_from_batch(from);
    config.set_ramp_fraction(0.5);
  }
  return BatchSchedule(config);
}

// What a checkpoint behind `step` knows.
Progress behind(const DataPosition& position, int64_t step) {
  Progress progress;
  progress.set_step(step);
  progress.set_sequences(position.sequences_behind(step));
  progress.set_tokens(position.tokens_behind(step));
  return progress;
}

}  // namespace

TEST_CASE("a run that goes on with another batch or ramp takes the next sequences") {
  const DataPosition first(schedule(60, 8), kSeqLen);
  CHECK(first.sequences_of(1) == SampleRange{.first = 0, .count = 8});
  CHECK(behind(first, 60).sequences() == 480);

  DataPosition second(schedule(63, 4), kSeqLen);
  second.go_on_from(behind(first, 60));
  CHECK(second.sequences_of(61) == SampleRange{.first = 480, .count = 4});
  CHECK(second.sequences_of(62).first == 484);
  CHECK(second.tokens_behind(60) == 480 * kSeqLen);
  CHECK(second.tokens_behind(61) == 484 * kSeqLen);

  // The same ramp over more steps would have got less far by step 20.
  const DataPosition ramp(schedule(20, 8, 4), kSeqLen);
  const Progress stored = behind(ramp, 20);
  DataPosition longer(schedule(40, 8, 4), kSeqLen);
  REQUIRE(longer.sequences_behind(20) < stored.sequences());
  longer.go_on_from(stored);
  CHECK(longer.sequences_of(21).first == stored.sequences());
  CHECK(longer.tokens_behind(20) == stored.tokens());
}

TEST_CASE("sequences that were passed over stay passed over, and are not counted as trained on") {
  const BatchSchedule batches = schedule(60, 8);
  DataPosition position(batches, kSeqLen);
  // Back from step 20 to the checkpoint of step 10, past what led to the fault.
  const int64_t seen = position.sequences_behind(20);
  position.go_on_from(behind(position, 10));
  position.skip_to(10, seen);
  CHECK(position.sequences_of(11) == SampleRange{.first = 160, .count = 8});
  CHECK(position.tokens_behind(11) == 88 * kSeqLen);
  DataPosition later(batches, kSeqLen);
  later.go_on_from(behind(position, 15));
  CHECK(later.sequences_of(16) == position.sequences_of(16));
  CHECK(later.tokens_behind(16) == position.tokens_behind(16));
}

TEST_CASE("an imported model starts with the first sequence") {
  DataPosition position(schedule(60, 8), kSeqLen);
  position.go_on_from(Progress());
  CHECK(position.sequences_of(1).first == 0);
}
