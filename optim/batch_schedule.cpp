// optim/batch_schedule.cpp: the ramp, and its sum in closed form.
#include "optim/batch_schedule.h"

#include <algorithm>
#include <cmath>

#include "core/base/check.h"

namespace shoal {
namespace {

using Wide = __int128;

// Σ over i in [0, n) of floor(slope * i / m), by the Euclidean recursion: logarithmic in n.
Wide floor_sum(Wide n, Wide m, Wide slope, Wide offset = 0) {
  Wide sum = 0;
  while (n > 0) {
    sum += n * (n - 1) / 2 * (slope / m) + n * (offset / m);
    slope %= m;
    offset %= m;
    const Wide top = slope * n + offset;
    if (top < m) break;
    n = top / m;
    offset = top % m;
    std::swap(m, slope);
  }
  return sum;
}

}  // namespace

BatchSchedule::BatchSchedule(const TrainConfig& config)
    : steps_(config.steps()), full_(config.global_batch()), from_(config.ramp_from_batch()), ramp_steps_(0) {
  if (steps_ < 1) fail("train.steps is {}; a run has at least 1 step", steps_);
  if (full_ < 1) fail("train.global_batch is {}; a step has at least 1 sequence", full_);
  if (from_ < 0 || from_ > full_) {
    fail("train.ramp_from_batch is {}; expected 0 (no ramp) to train.global_batch ({})", from_, full_);
  }
  int64_t total = 0;
  if (__builtin_mul_overflow(steps_, full_, &total)) {
    fail("train.steps ({}) * train.global_batch ({}) exceeds 2^63 sequences; lower one of them", steps_, full_);
  }
  if (from_ == 0) return;
  const double fraction = config.ramp_fraction();
  if (!(fraction >= 0 && fraction <= 1)) fail("train.ramp_fraction is {}; expected 0 to 1", fraction);
  ramp_steps_ = std::llround(fraction * static_cast<double>(steps_));
}

int64_t BatchSchedule::sequences(int64_t step) const {
  SHOAL_CHECK(step >= 1 && step <= steps_, "step {} of {}", step, steps_);
  if (step > ramp_steps_) return full_;
  return from_ + static_cast<int64_t>(Wide{full_ - from_} * (step - 1) / ramp_steps_);
}

int64_t BatchSchedule::first_sequence(int64_t step) const {
  SHOAL_CHECK(step >= 1 && step <= steps_ + 1, "step {} of {}", step, steps_);
  const int64_t done = step - 1;
  const int64_t ramped = std::min(done, ramp_steps_);
  Wide sum = Wide{full_} * (done - ramped) + Wide{from_} * ramped;
  if (ramped > 0) sum += floor_sum(ramped, ramp_steps_, full_ - from_);
  return static_cast<int64_t>(sum);
}

}  // namespace shoal
