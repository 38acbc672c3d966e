// tests/optim/batch_schedule_test.cpp: the ramp and its closed-form sum against a plain loop.
#include "optim/batch_schedule.h"

#include <catch2/catch.hpp>

#include <limits>

#include "core/base/check.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

TrainConfig config_of(int64_t steps, int64_t batch, int64_t from = 0, double fraction = 0.1) {
  TrainConfig config;
  config.set_steps(steps);
  config.set_global_batch(batch);
  config.set_ramp_from_batch(from);
  config.set_ramp_fraction(fraction);
  return config;
}

TEST_CASE("without a ramp every step takes the global batch") {
  const BatchSchedule schedule(config_of(10, 24));
  CHECK(schedule.sequences(1) == 24);
  CHECK(schedule.sequences(10) == 24);
  CHECK(schedule.first_sequence(1) == 0);
  CHECK(schedule.first_sequence(4) == 72);
  CHECK(schedule.total_sequences() == 240);
  CHECK(schedule.ramp_steps() == 0);
}

TEST_CASE("the ramp begins at ramp_from_batch and ends at the global batch") {
  const BatchSchedule schedule(config_of(100, 16, 8, 0.04));
  CHECK(schedule.ramp_steps() == 4);
  CHECK(schedule.sequences(1) == 8);
  CHECK(schedule.sequences(2) == 10);
  CHECK(schedule.sequences(3) == 12);
  CHECK(schedule.sequences(4) == 14);
  CHECK(schedule.sequences(5) == 16);
  CHECK(schedule.first_sequence(5) == 44);
  CHECK(schedule.total_sequences() == 44 + 96 * 16);
}

TEST_CASE("the closed form equals the sum of the steps before") {
  int ramps = 0;
  for (const int64_t steps : {1, 2, 7, 50, 333}) {
    for (const int64_t batch : {1, 5, 24, 1000}) {
      for (const int64_t from : {0, 1, 3, 24, 999}) {
        for (const double fraction : {0.0, 0.03, 0.5, 0.77, 1.0}) {
          if (from > batch) continue;
          const BatchSchedule schedule(config_of(steps, batch, from, fraction));
          ramps += schedule.ramp_steps() > 0;
          int64_t sum = 0;
          int64_t last = 0;
          bool equal = true;
          for (int64_t step = 1; step <= steps; ++step) {
            equal = equal && schedule.first_sequence(step) == sum;
            const int64_t here = schedule.sequences(step);
            equal = equal && here >= last && here >= 1 && here <= batch;  // grows, and never beyond the batch
            last = here;
            sum += here;
          }
          INFO(steps << " steps of " << batch << " from " << from << " over " << fraction);
          CHECK(equal);
          CHECK(schedule.total_sequences() == sum);
        }
      }
    }
  }
  CHECK(ramps > 100);
}

TEST_CASE("DeepSeek-V3's ramp grows linearly from 3072 to 15360") {
  const BatchSchedule schedule(config_of(1'000'000, 15360, 3072, 0.05));
  CHECK(schedule.sequences(1) == 3072);
  CHECK(schedule.sequences(25'001) == (3072 + 15360) / 2);
  CHECK(schedule.sequences(50'000) == 15359);
  CHECK(schedule.sequences(50'001) == 15360);
  const double mean_of_ramp = static_cast<double>(schedule.first_sequence(50'001)) / 50'000;
  CHECK(mean_of_ramp == Approx((3072 + 15360) / 2.0).margin(1));
}

TEST_CASE("huge runs do not overflow on the way") {
  const BatchSchedule schedule(config_of(int64_t{1} << 31, int64_t{1} << 31, 1, 1.0));
  CHECK(schedule.total_sequences() > int64_t{1} << 60);
  CHECK(schedule.first_sequence(2) == 1);
}

TEST_CASE("impossible schedules are refused with the numbers") {
  CHECK_THROWS_WITH(BatchSchedule(config_of(0, 24)), Contains("train.steps is 0"));
  CHECK_THROWS_WITH(BatchSchedule(config_of(10, 0)), Contains("train.global_batch is 0"));
  CHECK_THROWS_WITH(BatchSchedule(config_of(10, 24, 25)),
                    Contains("train.ramp_from_batch is 25; expected 0 (no ramp) to train.global_batch (24)"));
  CHECK_THROWS_WITH(BatchSchedule(config_of(10, 24, -1)), Contains("train.ramp_from_batch is -1"));
  CHECK_THROWS_WITH(BatchSchedule(config_of(10, 24, 8, 1.5)), Contains("train.ramp_fraction is 1.5"));
  CHECK_THROWS_WITH(BatchSchedule(config_of(10, 24, 8, std::numeric_limits<double>::quiet_NaN())),
                    Contains("train.ramp_fraction is nan"));
  CHECK_THROWS_WITH(BatchSchedule(config_of(int64_t{1} << 40, int64_t{1} << 40)), Contains("exceeds 2^63 sequences"));
  const BatchSchedule schedule(config_of(10, 24));
  CHECK_THROWS_WITH(schedule.sequences(0), Contains("step 0 of 10"));
  CHECK_THROWS_WITH(schedule.sequences(11), Contains("step 11 of 10"));
  CHECK_THROWS_WITH(schedule.first_sequence(12), Contains("step 12 of 10"));
}

}  // namespace
}  // namespace shoal
