// core/config/validate_durability.cpp: saving, going on, faults, and the watchdog.
#include <google/protobuf/descriptor.h>

#include <sstream>
#include <utility>

#include "core/config/checker.h"
#include "core/config/suggest.h"

namespace shoal {

namespace {

constexpr int64_t kMaxCount = 1'000'000'000'000;
constexpr double kMaxSeconds = 1e8;

// A field, or a message, of the config; an element of a list may be named by its list or with its [number].
void check_is_field(const Checker& checker, const std::string& path, const std::string& name) {
  const google::protobuf::Descriptor* message = Config::descriptor();
  std::istringstream steps(name);
  std::string passed;
  for (std::string step; std::getline(steps, step, '.');) {
    const std::string field_name = step.substr(0, step.find('['));
    const auto* field = message == nullptr ? nullptr : message->FindFieldByName(field_name);
    if (field == nullptr) {
      checker.refuse(path, "{} names `{}`, which is no field of the config; {}", path, name,
                     message == nullptr ? fmt::format("{} has no fields", passed)
                                        : no_such_field(*Config::descriptor(), *message, passed, field_name));
    }
    passed += (passed.empty() ? "" : ".") + step;
    message = field->message_type();
  }
  if (passed.empty()) checker.refuse(path, "{} is empty; name a field, such as optim.lr", path);
}

void check_resume(const Checker& checker, const TrainConfig& train) {
  const bool by_step = train.resume() == TrainConfig::STEP;
  if (by_step && !train.has_resume_step()) {
    checker.refuse("train.resume",
                   "train.resume is STEP, but train.resume_step is not set; name the step to go on from");
  }
  if (by_step) checker.in_range("train.resume_step", train.resume_step(), int64_t{0}, kMaxCount, "a saved step");
  for (int i = 0; i < train.allow_changed_size(); ++i) {
    check_is_field(checker, fmt::format("train.allow_changed[{}]", i), train.allow_changed(i));
  }
  checker.in_range("train.stop_after_minutes", train.stop_after_minutes(), 0.0, kMaxSeconds, "0: never");
}

void check_faults(const Checker& checker, const FaultConfig& faults) {
  const std::string path = "train.faults.";
  checker.at_least(path + "spike_deviations", faults.spike_deviations(), 0.0, "0: not looked at");
  checker.in_range(path + "spike_window", faults.spike_window(), int64_t{10}, int64_t{1'000'000}, "steps");
  checker.in_range(path + "max_skips", faults.max_skips(), int64_t{0}, kMaxCount, "steps in a row");
  checker.in_range(path + "max_roll_backs", faults.max_roll_backs(), int64_t{0}, kMaxCount, "without a new checkpoint");
}

void check_watchdog(const Checker& checker, const WatchdogConfig& watchdog) {
  for (const auto& [path, seconds] : {std::pair{"run.watchdog.step_seconds", watchdog.step_seconds()},
                                      std::pair{"run.watchdog.start_seconds", watchdog.start_seconds()},
                                      std::pair{"run.watchdog.save_seconds", watchdog.save_seconds()},
                                      std::pair{"run.watchdog.evaluate_seconds", watchdog.evaluate_seconds()}}) {
    checker.positive(path, seconds, "a rank without progress for so long is stuck");
  }
}

}  // namespace

void check_durability(const Checker& checker, const Config& config) {
  checker.in_range("checkpoint.every_steps", config.checkpoint().every_steps(), int64_t{0}, kMaxCount, "0: never");
  checker.in_range("checkpoint.keep", config.checkpoint().keep(), int64_t{2}, kMaxCount, "checkpoints that stay");
  checker.in_range("checkpoint.keep_every_steps", config.checkpoint().keep_every_steps(), int64_t{0}, kMaxCount,
                   "0: none");
  check_resume(checker, config.train());
  check_faults(checker, config.train().faults());
  check_watchdog(checker, config.run().watchdog());
}

}  // namespace shoal
