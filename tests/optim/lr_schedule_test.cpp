// tests/optim/lr_schedule_test.cpp: every schedule at its corners.
#include "optim/lr_schedule.h"

#include <catch2/catch.hpp>

#include "core/base/check.h"

namespace shoal {
namespace {

using Catch::Matchers::Contains;

OptimConfig config_of(ScheduleConfig::Kind kind, double lr = 1) {
  OptimConfig config;
  config.set_lr(lr);
  config.mutable_schedule()->set_kind(kind);
  return config;
}

TEST_CASE("warm-up rises linearly to the peak at its last step") {
  OptimConfig config = config_of(ScheduleConfig::CONSTANT, 4e-3);
  config.mutable_schedule()->set_warmup_fraction(0.04);
  CHECK(warmup_steps(config.schedule(), 100) == 4);
  CHECK(learning_rate(config, 1, 100) == Approx(1e-3).epsilon(1e-14));
  CHECK(learning_rate(config, 2, 100) == Approx(2e-3).epsilon(1e-14));
  CHECK(learning_rate(config, 3, 100) == Approx(3e-3).epsilon(1e-14));
  CHECK(learning_rate(config, 4, 100) == 4e-3);
  CHECK(learning_rate(config, 5, 100) == 4e-3);
  CHECK(learning_rate(config, 100, 100) == 4e-3);
}

TEST_CASE("warmup_steps wins over warmup_fraction, no warm-up starts at the peak") {
  OptimConfig config = config_of(ScheduleConfig::CONSTANT);
  config.mutable_schedule()->set_warmup_fraction(0.5);
  config.mutable_schedule()->set_warmup_steps(10);
  CHECK(learning_rate(config, 5, 100) == 0.5);
  CHECK(learning_rate(config, 10, 100) == 1);
  config.mutable_schedule()->set_warmup_steps(0);
  config.mutable_schedule()->set_warmup_fraction(0);
  CHECK(learning_rate(config, 1, 100) == 1);
  config.mutable_schedule()->set_warmup_steps(400);  // longer than the run: the peak is never reached
  CHECK(learning_rate(config, 100, 100) == 0.25);
}

TEST_CASE("the cosine ends at min_lr_ratio") {
  OptimConfig config = config_of(ScheduleConfig::COSINE, 2);
  config.mutable_schedule()->set_warmup_steps(20);
  config.mutable_schedule()->set_min_lr_ratio(0.1);
  CHECK(learning_rate(config, 20, 120) == 2);
  CHECK(learning_rate(config, 70, 120) == Approx(2 * 0.55).epsilon(1e-14));               // half way
  CHECK(learning_rate(config, 45, 120) == Approx(2 * (0.1 + 0.9 * 0.8535533905932737)));  // a quarter
  CHECK(learning_rate(config, 120, 120) == 0.2);
}

TEST_CASE("DeepSeek-V3's schedule has the published rates") {
  OptimConfig config = config_of(ScheduleConfig::CONSTANT_COSINE, 2.2e-4);
  config.mutable_schedule()->set_warmup_steps(2000);
  // 14.8T tokens as a million steps: 10T constant, 4.3T cosine, 333B, 167B.
  constexpr int64_t kSteps = 1'000'000;
  CHECK(learning_rate(config, 1, kSteps) == Approx(1.1e-7).epsilon(1e-12));
  CHECK(learning_rate(config, 1000, kSteps) == Approx(1.1e-4).epsilon(1e-12));
  CHECK(learning_rate(config, 2000, kSteps) == 2.2e-4);
  CHECK(learning_rate(config, 676'000, kSteps) == 2.2e-4);
  CHECK(learning_rate(config, 676'001, kSteps) < 2.2e-4);
  CHECK(learning_rate(config, 821'000, kSteps) == Approx((2.2e-4 + 2.2e-5) / 2).epsilon(1e-12));
  CHECK(learning_rate(config, 965'999, kSteps) > 2.2e-5);
  CHECK(learning_rate(config, 966'000, kSteps) == Approx(2.2e-5).epsilon(1e-14));
  CHECK(learning_rate(config, 989'000, kSteps) == Approx(2.2e-5).epsilon(1e-14));
  CHECK(learning_rate(config, 989'001, kSteps) == Approx(7.3e-6).epsilon(1e-3));
  CHECK(learning_rate(config, kSteps, kSteps) == Approx(7.3e-6).epsilon(1e-3));
}

TEST_CASE("WSD is stable, then falls linearly") {
  OptimConfig config = config_of(ScheduleConfig::WSD);
  config.mutable_schedule()->set_warmup_steps(10);
  config.mutable_schedule()->set_constant_fraction(0.8);
  config.mutable_schedule()->set_min_lr_ratio(0);
  CHECK(learning_rate(config, 10, 100) == 1);
  CHECK(learning_rate(config, 80, 100) == 1);
  CHECK(learning_rate(config, 85, 100) == Approx(0.75).epsilon(1e-14));
  CHECK(learning_rate(config, 99, 100) == Approx(0.05).epsilon(1e-14));
  CHECK(learning_rate(config, 100, 100) == 0);
}

TEST_CASE("a schedule keeps its shape when the run is shorter") {
  for (const auto kind : {ScheduleConfig::COSINE, ScheduleConfig::CONSTANT_COSINE, ScheduleConfig::WSD}) {
    OptimConfig config = config_of(kind);
    for (int64_t percent = 1; percent <= 100; ++percent) {
      INFO("kind " << kind << " at " << percent << " %");
      // 1000 and 4000 steps have every border on a whole step.
      CHECK(learning_rate(config, percent * 10, 1000) ==
            Approx(learning_rate(config, percent * 40, 4000)).epsilon(1e-12));
    }
  }
}

TEST_CASE("rates never rise behind the warm-up and stay in range, whatever the fractions") {
  for (const auto kind :
       {ScheduleConfig::CONSTANT, ScheduleConfig::COSINE, ScheduleConfig::CONSTANT_COSINE, ScheduleConfig::WSD}) {
    for (const double constant : {0.0, 0.5, 1.0}) {
      for (const int64_t warmup : {0, 1, 37, 50}) {
        OptimConfig config = config_of(kind);
        config.mutable_schedule()->set_constant_fraction(constant);
        config.mutable_schedule()->set_warmup_fraction(0);
        config.mutable_schedule()->set_warmup_steps(warmup);
        double last = 2;
        for (int64_t step = std::max<int64_t>(1, warmup); step <= 50; ++step) {
          const double rate = learning_rate(config, step, 50);
          CHECK((rate <= last && rate >= 0.03 && rate <= 1));
          last = rate;
        }
      }
    }
  }
}

TEST_CASE("multi-token prediction's weight changes once, if it is told to") {
  MtpConfig config;
  config.set_loss_weight(0.3);
  CHECK(mtp_loss_weight(config, 1, 1000) == 0.3);
  CHECK(mtp_loss_weight(config, 1000, 1000) == 0.3);
  config.set_final_loss_weight(0.1);
  CHECK(mtp_loss_weight(config, 676, 1000) == 0.3);
  CHECK(mtp_loss_weight(config, 677, 1000) == 0.1);
  CHECK(mtp_loss_weight(config, 1000, 1000) == 0.1);
  config.set_final_fraction(0);
  CHECK(mtp_loss_weight(config, 1, 1000) == 0.1);
}

TEST_CASE("a step outside the run is our mistake") {
  const OptimConfig config = config_of(ScheduleConfig::COSINE);
  CHECK_THROWS_WITH(learning_rate(config, 0, 10), Contains("step 0 of 10"));
  CHECK_THROWS_WITH(learning_rate(config, 11, 10), Contains("step 11 of 10"));
}

}  // namespace
}  // namespace shoal
