// core/train/schedule.h: in what order a step's forwards and backwards happen: a list of sets of actions.
//
// The actions of a set run together, one lane each, in fixed rotation (core/base/lane.h); sets follow each other. Every
// rank has the same number of microbatches and so the same schedule.
#pragma once

#include <vector>

namespace shoal {

enum class ActionKind { kForward, kBackward };

struct Action {
  ActionKind kind = ActionKind::kForward;
  int microbatch = 0;
  friend bool operator==(const Action&, const Action&) = default;
};

using Schedule = std::vector<std::vector<Action>>;

// Forward, then backward, of one microbatch after the other: the least memory, nothing hidden.
Schedule one_lane_schedule(int num_microbatches);

}  // namespace shoal
