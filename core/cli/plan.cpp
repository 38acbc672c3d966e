// core/cli/plan.cpp: `shoal plan`: what a run will take on a described cluster.
#include "core/plan/plan.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/cli/commands.h"
#include "core/cli/plan_search.h"
#include "core/config/load.h"
#include "core/config/load_cluster.h"
#include "core/config/validate.h"

namespace shoal {

namespace {

struct Options {
  std::vector<std::string> arguments;
  std::string cluster;
  double tokens = 0;
  bool json = false;
  std::string write;
  bool search = false;
  SearchChoices choices;
};

constexpr const char* kDescription = R"(Predict time, memory and money of a run on a described cluster.

  shoal plan configs/models/deepseek_v3.textproto configs/layouts/deepseek_v3.textproto --tokens 14.8e12 \
      --cluster configs/clusters/h800_2048.textproto
  shoal plan configs/moe_1b.textproto --cluster configs/clusters/h100_100gbe.textproto cluster.num_nodes=2 --json

The cluster says how many GPUs there are, all of which are used; cluster.key=value changes its description. The training
step itself is played by one rank, without storage: memory is what its allocators count, time what its ops and transfers
take on the described GPU and links, with routing balanced. parallel.pipeline > 1, which training cannot do yet, adds
closed forms for what stages do to each other. No GPU and no MPI are needed.

--write RUN/plan.json leaves the plan where `shoal report RUN` compares it with what was measured.

--search ranks layouts instead of planning the given one: axes of the mesh, pipeline schedules, FP8, dispatch, overlap,
recomputation and microbatch are tried, as far as the model and the cluster allow. What is given on the command line
stays, as do model, data and global batch:

  shoal plan configs/models/deepseek_v3.textproto configs/layouts/deepseek_v3.textproto \
      --cluster configs/clusters/h800_2048.textproto --search
  shoal plan configs/models/mixtral_8x7b.textproto train.global_batch=512 parallel.pipeline=1 \
      --cluster configs/clusters/h100_ib.textproto --search --by money --num-nodes 2 4 8)";

constexpr const char* kClusterPrefix = "cluster.";

// "cluster.num_nodes=4" → "num_nodes=4", taken out of the config's overrides.
std::vector<std::string> take_cluster_overrides(ConfigArguments& arguments) {
  std::vector<std::string> taken, kept;
  for (const std::string& one : arguments.overrides) {
    const bool of_cluster = one.starts_with(kClusterPrefix);
    (of_cluster ? taken : kept).push_back(of_cluster ? one.substr(std::string(kClusterPrefix).size()) : one);
  }
  arguments.overrides = kept;
  return taken;
}

void run(const Options& options) {
  ConfigArguments arguments = split_config_arguments(options.arguments);
  const std::vector<std::string> of_cluster = take_cluster_overrides(arguments);
  const LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  validate(loaded, ConfigUse::kStep);
  const LoadedCluster cluster = load_cluster(options.cluster, of_cluster);
  if (options.search) {
    search_plans(loaded, cluster.cluster, options.choices, options.tokens, options.json, options.write);
    return;
  }
  check_no_search_choices(options.choices);
  const Plan plan = make_plan(loaded.config, cluster.cluster, options.tokens);
  fmt::print("{}", options.json ? to_json(plan) : describe(plan));
  if (!options.write.empty()) write_text_file(options.write, to_json(plan));
}

}  // namespace

void add_plan_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("plan", kDescription);
  command.positional("config", options->arguments,
                     "CONFIG... [key=value...] [cluster.key=value...]: config files, then overrides");
  command.option("--cluster", options->cluster, "The cluster: a file of configs/clusters, or one like them",
                 Need::kRequired);
  command.option("--tokens", options->tokens, "Tokens of the run, instead of train.steps", {.low = 0, .high = 1e18});
  command.flag("--json", options->json, "One JSON object");
  command.option("--write", options->write, "Write the JSON object to this file, too");
  command.flag("--search", options->search, "Rank layouts, the best first");
  add_search_options(command, options->choices);
  command.action([options] { run(*options); });
}

}  // namespace shoal
