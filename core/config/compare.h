// core/config/compare.h: what changed from one config to another, and whether it changes what is trained.
#pragma once

#include <string>
#include <vector>

#include "core/config/config.pb.h"

namespace shoal {

struct ConfigChange {
  std::string path;  // "optim.lr", "data.train[0].prefix"
  std::string was;   // as in a config file; "absent" where there was none
  std::string is;
  // Model, data, optimizer, precision, seed and the number of steps; not the layout, the folder, or what is reported.
  bool matters = false;
};

// In the schema's order, defaults counted as given.
std::vector<ConfigChange> compare_configs(const Config& was, const Config& is);

// Whether `path` is one of `names`, or inside one: "optim" covers "optim.lr", "data.train" "data.train[1].weight".
bool is_covered(const std::string& path, const std::vector<std::string>& names);

// A line a change: "  optim.lr: 0.001 → 0.002".
std::string describe(const std::vector<ConfigChange>& changes);

}  // namespace shoal
