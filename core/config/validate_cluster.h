// core/config/validate_cluster.h: is this a cluster?
#pragma once

#include "core/config/load_cluster.h"

namespace shoal {

// Numbers that are no numbers, a GPU that nobody knows: before anything is filled in.
void validate_cluster_as_given(const LoadedCluster& loaded);
// Everything else. Afterwards no bandwidth or peak that is used is 0.
void validate_cluster(const LoadedCluster& loaded);

}  // namespace shoal
