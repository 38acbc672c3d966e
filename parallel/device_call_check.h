// parallel/device_call_check.h: that ranks have queued the same calls on their devices.
//
// Messages of a device carry no tags that could be compared when they arrive (NCCL has none): ranks whose calls differ
// get wrong numbers, or hang. So their histories are compared between steps, before a step's result is kept; a hang is
// the watchdog's, which compares them too.
#pragma once

#include "parallel/communicator.h"

namespace shoal {

// Collective over the world, between two steps: throws an Error that names the group and two ranks whose calls of it
// differ. Without groups on devices, or a record of them, nothing is sent.
void check_device_calls(Communicator& world);
// The same of these groups of this rank.
struct GroupProgress;
void check_device_calls(Communicator& world, const std::vector<GroupProgress>& groups);

}  // namespace shoal
