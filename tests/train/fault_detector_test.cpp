// tests/train/fault_detector_test.cpp: what a step's loss and gradient norm lead to.
#include "core/train/fault_detector.h"

#include <catch2/catch.hpp>

#include <cmath>
#include <limits>

using namespace shoal;

namespace {

using Action = StepVerdict::Action;
const double kNan = std::nan("");
constexpr double kInf = std::numeric_limits<double>::infinity();

FaultConfig spikes(double deviations, int64_t window = 100) {
  FaultConfig config;
  config.set_spike_deviations(deviations);
  config.set_spike_window(window);
  return config;
}

// 20 losses of mean 2 and deviation near 0.1.
void feed(FaultDetector& detector) {
  for (int i = 0; i < 20; ++i) REQUIRE(detector.judge(i % 2 == 0 ? 1.9 : 2.1, 1, true).action == Action::kUpdate);
}

}  // namespace

TEST_CASE("what is not finite is skipped, so many times in a row") {
  FaultConfig config;
  config.set_max_skips(3);
  for (const auto& [loss, norm] : {std::pair{kNan, 1.0}, {1.0, kNan}, {kInf, 1.0}, {1.0, -kInf}}) {
    FaultDetector detector(config);
    for (int i = 0; i < 3; ++i) CHECK(detector.judge(loss, norm, false).action == Action::kSkip);
    CHECK(detector.judge(1, 1, false).action == Action::kUpdate);  // counts anew
    for (int i = 0; i < 3; ++i) CHECK(detector.judge(loss, norm, false).action == Action::kSkip);
    const StepVerdict last = detector.judge(loss, norm, false);
    CHECK(last.action == Action::kStop);
    CHECK(last.reason.find("not finite") != std::string::npos);
    CHECK(last.reason.find("3 steps before were skipped") != std::string::npos);
  }
}

TEST_CASE("skips become roll-backs where there is a checkpoint, and those a stop") {
  FaultConfig config;
  config.set_max_skips(1);
  config.set_max_roll_backs(2);
  FaultDetector detector(config);
  for (int back = 0; back < 2; ++back) {
    CHECK(detector.judge(kNan, 1, true).action == Action::kSkip);
    CHECK(detector.judge(kNan, 1, true).action == Action::kRollBack);
  }
  CHECK(detector.judge(kNan, 1, true).action == Action::kSkip);
  CHECK(detector.judge(kNan, 1, true).action == Action::kStop);
  CHECK(detector.roll_backs() == 3);
}

TEST_CASE("bad weights are never skipped: back to a checkpoint, so many times, or a stop") {
  FaultConfig config;  // SKIP
  config.set_max_roll_backs(2);
  FaultDetector detector(config);
  CHECK(detector.judge_state("m is nan", true).action == Action::kRollBack);
  CHECK(detector.judge(1, 1, true).action == Action::kUpdate);
  CHECK(detector.judge_state("m is nan", true).action == Action::kRollBack);
  CHECK(detector.roll_backs() == 2);
  const StepVerdict last = detector.judge_state("m is nan", true);
  CHECK(last.action == Action::kStop);
  CHECK(last.reason == "m is nan; rolling back 2 times did not help");
  CHECK(FaultDetector(config).judge_state("m is nan", false).action == Action::kStop);
  config.set_not_finite(FaultConfig::STOP);
  CHECK(FaultDetector(config).judge_state("m is nan", true).action == Action::kStop);
}

TEST_CASE("roll-backs are forgotten once a checkpoint is proven by a good step, not when it is made") {
  FaultConfig config;
  config.set_not_finite(FaultConfig::ROLL_BACK);
  config.set_max_roll_backs(2);
  FaultDetector detector(config);
  CHECK(detector.judge(kNan, 1, true).action == Action::kRollBack);
  CHECK(detector.roll_backs() == 1);
  detector.note_checkpoint();  // of weights that the next loss finds bad
  CHECK(detector.judge(kNan, 1, true).action == Action::kRollBack);
  CHECK(detector.judge(2, 1, true).action == Action::kUpdate);
  CHECK(detector.roll_backs() == 2);
  detector.note_checkpoint();
  CHECK(detector.judge(2, 1, true).action == Action::kUpdate);
  CHECK(detector.roll_backs() == 0);
  detector.note_checkpoint();
  for (int back = 0; back < 2; ++back) CHECK(detector.judge(kNan, 1, true).action == Action::kRollBack);
  CHECK(detector.judge(kNan, 1, true).action == Action::kStop);
}

TEST_CASE("reactions by name") {
  FaultConfig config;
  config.set_not_finite(FaultConfig::STOP);
  CHECK(FaultDetector(config).judge(kNan, 1, true).action == Action::kStop);
  config.set_not_finite(FaultConfig::ROLL_BACK);
  CHECK(FaultDetector(config).judge(kNan, 1, true).action == Action::kRollBack);
  const StepVerdict verdict = FaultDetector(config).judge(kNan, 1, false);
  CHECK(verdict.action == Action::kStop);
  CHECK(verdict.reason.find("no checkpoint to roll back to") != std::string::npos);
}

TEST_CASE("a spike is told by the losses before it, once there are enough") {
  FaultDetector off{FaultConfig()};
  for (int i = 0; i < 50; ++i) CHECK(off.judge(1, 1, true).action == Action::kUpdate);
  CHECK(off.judge(1e9, 1, true).action == Action::kUpdate);
  CHECK(off.recent_losses().empty());

  FaultDetector few(spikes(3));
  for (int i = 0; i < 9; ++i) few.judge(2, 1, true);
  CHECK(few.judge(1e9, 1, true).action == Action::kUpdate);

  FaultDetector detector(spikes(6));
  feed(detector);
  CHECK(detector.judge(2.5, 1, true).action == Action::kUpdate);    // 5 deviations
  CHECK(detector.judge(0.001, 1, true).action == Action::kUpdate);  // below is no spike
  FaultDetector strict(spikes(6));
  feed(strict);
  const StepVerdict verdict = strict.judge(2.7, 1, true);
  CHECK(verdict.action == Action::kSkip);
  CHECK(verdict.reason.find("deviations above 2.0000, the mean of the last 20 steps") != std::string::npos);
  CHECK(strict.recent_losses().size() == 20);  // a spike is no measure of the next
}

TEST_CASE("the window holds so many losses") {
  FaultDetector detector(spikes(3, 12));
  feed(detector);
  CHECK(detector.recent_losses().size() == 12);
}

TEST_CASE("a run that goes on judges as the one that did not stop") {
  FaultDetector whole(spikes(4, 15)), before(spikes(4, 15)), after(spikes(4, 15));
  feed(whole);
  feed(before);
  after.set_recent_losses(before.recent_losses());
  for (const double loss : {2.0, 2.3, 2.39, 2.41, 2.6, 1.0, 3.0}) {
    CHECK(whole.judge(loss, 1, true).action == after.judge(loss, 1, true).action);
  }
  CHECK(whole.recent_losses() == after.recent_losses());
}
