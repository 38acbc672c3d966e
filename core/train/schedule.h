// core/train/schedule.h: in what order a step's forwards and backwards happen: a list of sets of actions.
//
// The actions of a set run together, one lane each, in fixed rotation (core/base/lane.h); sets follow each other. Every
// rank has the same number of microbatches and so the same schedule.
//
// The backwards of a set are in order of microbatches, so that of two that reach the same gradient the earlier
// microbatch is first: with any schedule gradients add up in the same order.
#pragma once

#include <vector>

#include "core/config/config.pb.h"

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
// Two forwards together, then their backwards. Of an odd number the last runs alone.
Schedule pair_forward_schedule(int num_microbatches);
// The backward of a microbatch together with the forward of the next; alone at both ends, where nothing hides: what
// DualPipe does inside a stage (arXiv:2412.19437 §3.2.1).
Schedule pair_forward_backward_schedule(int num_microbatches);

// The one that is named; `overlap` is not AUTO.
Schedule make_schedule(ParallelConfig::Overlap::Schedule overlap, int num_microbatches);

// A microbatch's lane: those of neighbours differ.
inline int lane_of(const Action& action) { return action.microbatch % 2; }

}  // namespace shoal
