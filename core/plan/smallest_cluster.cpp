// core/plan/smallest_cluster.cpp: searches that end with the first layout that fits, on twice as many nodes each.
#include "core/plan/smallest_cluster.h"

#include "core/plan/search.h"

namespace shoal {

SmallestCluster smallest_cluster(const LoadedConfig& loaded, const ClusterConfig& cluster) {
  constexpr int64_t kMaxGpus = 1'000'000;
  const SearchOptions first{.by = SearchBy::kMemory, .num_results = 1};
  SmallestCluster smallest;
  for (int64_t nodes = cluster.num_nodes(); nodes * cluster.gpus_per_node() <= kMaxGpus; nodes *= 2) {
    ClusterConfig larger = cluster;
    larger.set_num_nodes(static_cast<int32_t>(nodes));
    const SearchSpace space(loaded, larger);
    SearchResult result;
    try {
      result = search_layouts(space, first);
    } catch (const Error&) {
      return {};
    }
    if (result.best.empty()) {
      smallest.is_proven = result.fits_nowhere();
      continue;
    }
    const SearchLayout& layout = result.best.front().point.layout;
    smallest.num_nodes = static_cast<int>(nodes);
    smallest.name = space.name_of(layout);
    smallest.overrides = space.overrides_of(layout);
    return smallest;
  }
  return {};
}

}  // namespace shoal
