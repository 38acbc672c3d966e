// core/plan/smallest_cluster.h: how many nodes it would take, where a model fits nowhere on those there are.
#pragma once

#include <string>

#include "core/config/cluster.pb.h"
#include "core/config/load.h"

namespace shoal {

// Nodes of the same kind, doubled until some layout fits: that many, and its layout for a command line. 0: none was
// found, up to where rules end it (a batch has only so many sequences) or GPUs number a million.
struct SmallestCluster {
  int num_nodes = 0;
  bool is_proven = false;  // with half as many, bounds and plans exclude all layouts
  std::string name, overrides;
};
SmallestCluster smallest_cluster(const LoadedConfig& loaded, const ClusterConfig& cluster);

}  // namespace shoal
