// optim/lr_schedule.h: the learning rate of every step, as a pure function of the step.
#pragma once

#include <cstdint>

#include "core/config/config.pb.h"

namespace shoal {

// Steps of linear warm-up: schedule.warmup_steps, or else warmup_fraction of the run, rounded.
int64_t warmup_steps(const ScheduleConfig& schedule, int64_t total_steps);

// The rate of `step` (1-based, as everywhere in optim) of a run of `total_steps`.
//
// Warm-up step s of W has lr * s / W: the first step already learns, step W is the first at the peak. Afterwards the
// schedule's kind decides, by the share of the run that is done once `step` is: the last step ends where the schedule
// ends. Every border scales with total_steps and falls on a whole step, so a shorter run keeps the shape.
double learning_rate(const OptimConfig& config, int64_t step, int64_t total_steps);

// The weight of multi-token prediction's loss in step `step` (1-based) of `steps`.
double mtp_loss_weight(const MtpConfig& config, int64_t step, int64_t steps);

}  // namespace shoal
