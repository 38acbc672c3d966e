// core/cli/plan_search.h: `shoal plan --search`: its options, and what it prints.
#pragma once

#include <string>
#include <vector>

#include "core/cli/command_line.h"
#include "core/config/cluster.pb.h"
#include "core/config/load.h"

namespace shoal {

struct SearchChoices {
  std::string by = "time";
  std::vector<std::string> num_nodes;
  int results = 10;
  double effort = 1;
};

void add_search_options(Command command, SearchChoices& choices);
// Throws where one was given without --search.
void check_no_search_choices(const SearchChoices& choices);

// Throws where nothing fits, with the smallest cluster that would do.
void search_plans(const LoadedConfig& loaded, const ClusterConfig& cluster, const SearchChoices& choices, double tokens,
                  bool json, const std::string& write);

}  // namespace shoal
