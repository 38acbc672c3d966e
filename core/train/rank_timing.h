// core/train/rank_timing.h: how long something takes that all ranks of a group do together.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/base/allocator.h"
#include "parallel/communicator.h"

namespace shoal {

// Over samples, each as long as the slowest rank took for it.
struct RankTime {
  double median_us = 0;
  double best_us = 0;
};

// Collective: runs `once` on every rank for about `seconds`, after a few runs to warm up. A sample begins with a
// barrier and is as many runs back to back as make the barrier's own time small; it counts the time of one.
RankTime time_ranks(Communicator& group, Allocator& allocator, double seconds, const std::function<void()>& once);

// Collective: Σ over ranks of `mine`, element by element.
std::vector<double> sum_over_ranks(Communicator& group, Allocator& allocator, const std::vector<double>& mine);

// Of at least one value.
double median(std::vector<double> values);

}  // namespace shoal
