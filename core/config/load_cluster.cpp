// core/config/load_cluster.cpp: parse, merge, fill in, check.
#include "core/config/load_cluster.h"

#include "core/base/check.h"
#include "core/config/known_gpus.h"
#include "core/config/load.h"
#include "core/config/override.h"
#include "core/config/validate_cluster.h"

namespace shoal {
namespace {

void merge_text(LoadedCluster& loaded, const std::string& text, const std::string& name) {
  const auto at = [&](const TextPlace& place) { return fmt::format("{}:{}:{}", name, place.line, place.column); };
  try {
    const TextPlaces found = parse_text(text, loaded.cluster);
    for (const auto& [path, place] : found.places) loaded.origins[path] = at(place);
  } catch (const ParseError& error) {
    fail("{}: {}", at(error.place()), error.what());
  }
}

// A list is replaced as a whole only at the root, where all of them are.
void merge_override(LoadedCluster& loaded, const std::string& text) {
  const std::string origin = fmt::format("cluster.{}", text);
  try {
    ClusterConfig changed;
    const TextPlaces found = parse_override(text, changed);
    if (found.lists.contains("efficiency")) loaded.cluster.clear_efficiency();
    loaded.cluster.MergeFrom(changed);
    for (const auto& [path, place] : found.places) loaded.origins[path] = origin;
  } catch (const Error& error) {
    fail("{}: {}", origin, error.what());
  }
}

void complete_link(ClusterLink& link) {
  if (!link.has_gbyte_per_s()) link.set_gbyte_per_s(link.peak_gbyte_per_s());
}

}  // namespace

LoadedCluster parse_cluster(const std::string& text, const std::string& name,
                            const std::vector<std::string>& overrides) {
  LoadedCluster loaded;
  merge_text(loaded, text, name);
  for (const std::string& one : overrides) merge_override(loaded, one);
  validate_cluster_as_given(loaded);
  complete_gpu(*loaded.cluster.mutable_gpu());
  if (loaded.cluster.has_in_node()) complete_link(*loaded.cluster.mutable_in_node());
  if (loaded.cluster.has_network()) complete_link(*loaded.cluster.mutable_network());
  validate_cluster(loaded);
  return loaded;
}

LoadedCluster load_cluster(const std::string& file, const std::vector<std::string>& overrides) {
  return parse_cluster(read_config_file(file), file, overrides);
}

}  // namespace shoal
