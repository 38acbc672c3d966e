// core/train/schedule.cpp: schedules as plain lists.
#include "core/train/schedule.h"

namespace shoal {

Schedule one_lane_schedule(int num_microbatches) {
  Schedule schedule;
  for (int i = 0; i < num_microbatches; ++i) {
    schedule.push_back({{ActionKind::kForward, i}});
    schedule.push_back({{ActionKind::kBackward, i}});
  }
  return schedule;
}

}  // namespace shoal
