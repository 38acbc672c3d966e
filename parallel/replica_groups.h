// parallel/replica_groups.h: the ranks that hold the same values, by kind of parameter.
#pragma once

#include "parallel/communicator.h"
#include "parallel/parameter.h"

namespace shoal {

// Two kinds that share a communicator share gradient buckets.
struct ReplicaGroups {
  Communicator& every_rank;
  Communicator& tensor;
  Communicator& expert;

  Communicator& of(ParameterGroup group) const {
    if (group == ParameterGroup::kExpert) return expert;
    return group == ParameterGroup::kTensor ? tensor : every_rank;
  }
};

}  // namespace shoal
