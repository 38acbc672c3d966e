// core/config/load_cluster.h: a description of a cluster, from a file and overrides.
#pragma once

#include <string>
#include <vector>

#include "core/config/cluster.pb.h"
#include "core/config/given_values.h"

namespace shoal {

struct LoadedCluster : GivenValues {
  ClusterConfig cluster;
};

// What its GPU's name tells, and that links reach their peaks where nothing else is said, is filled in. Overrides:
// "num_nodes=64", "network.gbyte_per_s=12.5". Throws Error as load_config() and validate() do: where it was given, the
// values, what to do.
LoadedCluster load_cluster(const std::string& file, const std::vector<std::string>& overrides = {});
// The same for a text, as if it were the file `name`.
LoadedCluster parse_cluster(const std::string& text, const std::string& name,
                            const std::vector<std::string>& overrides = {});

}  // namespace shoal
