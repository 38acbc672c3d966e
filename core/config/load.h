// core/config/load.h: from files and overrides to one Config, remembering where every value came from.
#pragma once

#include <string>
#include <vector>

#include "core/config/config.pb.h"
#include "core/config/given_values.h"

namespace shoal {

struct LoadedConfig : GivenValues {
  Config config;
};

// Text-format files merged in order, later wins; a repeated field is replaced whole. Then overrides "path=value", in
// order: `train.steps=60`, `run.dir=runs/a` (strings may go without quotes), `data.train=[{prefix: "a"}]`,
// `model.moe={num_experts: 8 topk: 2 ffn: 64}` (a message is merged, as from a file).
//
// Throws Error: "FILE:LINE:COLUMN: …" (1-based, at the offending word) or "override N (TEXT): …", with the nearest
// field name for a typo and the values for an unknown enum value. Does not validate (validate.h).
LoadedConfig load_config(const std::vector<std::string>& files, const std::vector<std::string>& overrides = {});

// The same for one text, as if it were the only file, `name`.
LoadedConfig parse_config(const std::string& text, const std::string& name,
                          const std::vector<std::string>& overrides = {});

// The text of a config file. Throws Error naming a neighbour that is meant, perhaps.
std::string read_config_file(const std::string& name);

// A command line's `CONFIG... [key=value...]`, told apart: an override is a name, '=', and anything.
struct ConfigArguments {
  std::vector<std::string> files;
  std::vector<std::string> overrides;
};
ConfigArguments split_config_arguments(const std::vector<std::string>& arguments);

}  // namespace shoal
