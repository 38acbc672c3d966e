// core/train/fault_detector.cpp: not finite, or far above the losses before.
#include "core/train/fault_detector.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/check.h"

namespace shoal {

namespace {

// Of few losses the deviation says little.
constexpr size_t kFewestLosses = 10;

struct Spread {
  double mean = 0;
  double deviation = 0;
};

Spread spread_of(const std::deque<double>& losses) {
  const auto count = static_cast<double>(losses.size());
  const double mean = std::accumulate(losses.begin(), losses.end(), 0.0) / count;
  double squares = 0;
  for (const double loss : losses) squares += (loss - mean) * (loss - mean);
  return {.mean = mean, .deviation = std::sqrt(squares / (count - 1))};
}

}  // namespace

StepVerdict FaultDetector::judge(double loss, double grad_norm, bool can_roll_back) {
  if (!std::isfinite(loss) || !std::isfinite(grad_norm)) {
    const auto text = [](double x) { return std::isnan(x) ? "nan" : fmt::format("{}", x); };  // of whatever sign
    return react(config_.not_finite(),
                 fmt::format("loss {}, gradient norm {}: not finite", text(loss), text(grad_norm)), can_roll_back);
  }
  const double limit = config_.spike_deviations();
  const auto window = static_cast<size_t>(std::max<int64_t>(config_.spike_window(), 2));
  if (limit > 0 && losses_.size() >= std::min(window, kFewestLosses)) {
    const Spread spread = spread_of(losses_);
    if (loss > spread.mean + limit * spread.deviation) {
      return react(config_.spike(),
                   fmt::format("loss {:.4f} lies {:.1f} deviations above {:.4f}, the mean of the last {} steps", loss,
                               (loss - spread.mean) / spread.deviation, spread.mean, losses_.size()),
                   can_roll_back);
    }
  }
  if (limit > 0) {
    losses_.push_back(loss);
    while (losses_.size() > window) losses_.pop_front();
  }
  skips_in_a_row_ = 0;
  if (unproven_checkpoint_) roll_backs_ = 0;
  unproven_checkpoint_ = false;
  return {};
}

StepVerdict FaultDetector::judge_state(std::string found, bool can_roll_back) {
  const bool stop = config_.not_finite() == FaultConfig::STOP;
  return react(stop ? FaultConfig::STOP : FaultConfig::ROLL_BACK, std::move(found), can_roll_back);
}

StepVerdict FaultDetector::react(FaultConfig::Reaction reaction, std::string reason, bool can_roll_back) {
  using Action = StepVerdict::Action;
  unproven_checkpoint_ = false;
  if (reaction == FaultConfig::SKIP) {
    if (++skips_in_a_row_ <= config_.max_skips()) return {Action::kSkip, std::move(reason)};
    reason += fmt::format(", and {} steps before were skipped", config_.max_skips());
    reaction = can_roll_back ? FaultConfig::ROLL_BACK : FaultConfig::STOP;
  }
  if (reaction == FaultConfig::ROLL_BACK) {
    if (!can_roll_back) {
      return {Action::kStop, reason + "; there is no checkpoint to roll back to"};
    }
    if (++roll_backs_ <= config_.max_roll_backs()) {
      skips_in_a_row_ = 0;
      return {Action::kRollBack, std::move(reason)};
    }
    return {Action::kStop, reason + fmt::format("; rolling back {} times did not help", config_.max_roll_backs())};
  }
  return {Action::kStop, std::move(reason)};
}

}  // namespace shoal
