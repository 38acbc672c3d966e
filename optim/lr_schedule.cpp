// optim/lr_schedule.cpp: warm-up, then the schedule's kind.
#include "optim/lr_schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/check.h"

namespace shoal {
namespace {

// 1 at begin, 0 at end; constant outside.
double cosine_decay(double at, double begin, double end) {
  if (at <= begin) return 1;
  if (at >= end) return 0;
  return 0.5 * (1 + std::cos(std::numbers::pi * (at - begin) / (end - begin)));
}

double linear_decay(double at, double begin, double end) {
  if (at <= begin) return 1;
  if (at >= end) return 0;
  return (end - at) / (end - begin);
}

// A border between two parts of the schedule, on a whole step.
double border(double fraction, double total) { return std::round(fraction * total); }

double mix(double low, double share) { return low + (1 - low) * share; }

// The rate behind the warm-up, relative to the peak.
double ratio_after_warmup(const ScheduleConfig& schedule, double step, double warmup, double total) {
  const double low = schedule.min_lr_ratio();
  // A warm-up longer than the constant part delays the decay, it does not enter it midway.
  const double decay_begin = std::max(warmup, border(schedule.constant_fraction(), total));
  switch (schedule.kind()) {
    case ScheduleConfig::CONSTANT: return 1;
    case ScheduleConfig::COSINE: return mix(low, cosine_decay(step, warmup, total));
    case ScheduleConfig::CONSTANT_COSINE:
      if (step > border(schedule.final_fraction(), total)) return schedule.final_lr_ratio();
      return mix(low, cosine_decay(step, decay_begin, border(schedule.cosine_end_fraction(), total)));
    case ScheduleConfig::WSD: return mix(low, linear_decay(step, decay_begin, total));
  }
  fail("optim.schedule.kind {} is unknown", static_cast<int>(schedule.kind()));
}

}  // namespace

int64_t warmup_steps(const ScheduleConfig& schedule, int64_t total_steps) {
  if (schedule.warmup_steps() > 0) return schedule.warmup_steps();
  return std::llround(schedule.warmup_fraction() * static_cast<double>(total_steps));
}

double learning_rate(const OptimConfig& config, int64_t step, int64_t total_steps) {
  SHOAL_CHECK(step >= 1 && step <= total_steps, "step {} of {}", step, total_steps);
  const ScheduleConfig& schedule = config.schedule();
  const int64_t warmup = warmup_steps(schedule, total_steps);
  if (step < warmup) return config.lr() * static_cast<double>(step) / static_cast<double>(warmup);
  return config.lr() * ratio_after_warmup(schedule, static_cast<double>(step), static_cast<double>(warmup),
                                          static_cast<double>(total_steps));
}

double mtp_loss_weight(const MtpConfig& config, int64_t step, int64_t steps) {
  const bool early = static_cast<double>(step - 1) < config.final_fraction() * static_cast<double>(steps);
  return early || !config.has_final_loss_weight() ? config.loss_weight() : config.final_loss_weight();
}

}  // namespace shoal
