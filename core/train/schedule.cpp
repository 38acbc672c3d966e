// core/train/schedule.cpp: one microbatch after the other, or two and two.
#include "core/train/schedule.h"

#include "core/base/check.h"

namespace shoal {

namespace {

constexpr ActionKind kForward = ActionKind::kForward, kBackward = ActionKind::kBackward;

}  // namespace

Schedule one_lane_schedule(int num_microbatches) {
  Schedule schedule;
  for (int i = 0; i < num_microbatches; ++i) {
    schedule.push_back({{kForward, i}});
    schedule.push_back({{kBackward, i}});
  }
  return schedule;
}

Schedule pair_forward_schedule(int num_microbatches) {
  Schedule schedule;
  for (int i = 0; i < num_microbatches; i += 2) {
    for (const ActionKind kind : {kForward, kBackward}) {
      std::vector<Action>& together = schedule.emplace_back();
      together.push_back({kind, i});
      if (i + 1 < num_microbatches) together.push_back({kind, i + 1});
    }
  }
  return schedule;
}

Schedule pair_forward_backward_schedule(int num_microbatches) {
  Schedule schedule;
  for (int i = 0; i <= num_microbatches && num_microbatches > 0; ++i) {
    std::vector<Action>& together = schedule.emplace_back();
    if (i > 0) together.push_back({kBackward, i - 1});
    if (i < num_microbatches) together.push_back({kForward, i});
  }
  return schedule;
}

Schedule make_schedule(ParallelConfig::Overlap::Schedule overlap, int num_microbatches) {
  switch (overlap) {
    case ParallelConfig::Overlap::OFF: return one_lane_schedule(num_microbatches);
    case ParallelConfig::Overlap::PAIR_FORWARD: return pair_forward_schedule(num_microbatches);
    case ParallelConfig::Overlap::PAIR_FORWARD_BACKWARD: return pair_forward_backward_schedule(num_microbatches);
    default: fail("no schedule is called {}", static_cast<int>(overlap));
  }
}

}  // namespace shoal
