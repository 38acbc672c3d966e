// core/cli/config.cpp: `shoal config`: checks a config and prints all of it, with what it amounts to.
#include <fmt/format.h>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/config/print.h"
#include "core/config/validate.h"
#include "core/model/flops.h"
#include "core/train/progress.h"
#include "parallel/simulated_communicator.h"

namespace shoal {
namespace {

struct Options {
  std::vector<std::string> arguments;
  int ranks = 0;
};

constexpr const char* kDescription =
    R"(Check config files and print the config they make: every field, and where its value comes from.

  shoal config configs/quickstart.textproto train.steps=60
  shoal config configs/models/deepseek_v3.textproto
  shoal config configs/quickstart.textproto --ranks 6

The output is itself a config file. It ends with the number of parameters, FLOPs per token and tokens per step.)";

std::string describe_parameters(const ParameterCounts& counts) {
  std::string text = fmt::format("# parameters     {}\n", format_count(counts.total));
  if (counts.router_biases > 0) {
    text +=
        fmt::format("#                {} of them are router selection biases\n", format_count(counts.router_biases));
  }
  if (counts.mtp > 0) {
    text += fmt::format("#                {} more for multi-token prediction\n", format_count(counts.mtp));
  }
  text += fmt::format("# active         {} per token", format_count(counts.active));
  if (counts.active_without_embedding != counts.active) {
    text += fmt::format(", {} without the embedding", format_count(counts.active_without_embedding));
  }
  return text + "\n";
}

std::string describe_flops(const ModelConfig& model, int64_t seq_len) {
  const auto gflops = [&](FlopConvention convention) { return flops_per_token(model, seq_len, convention) * 1e-9; };
  std::string text =
      fmt::format("# FLOPs          {:.6g} GFLOP per token, {:.6g} non-causal", gflops({}), gflops({.causal = false}));
  if (model.mtp().depth() > 0) {
    text += fmt::format("; {:.6g} causal with multi-token prediction", gflops({.with_mtp = true}));
  }
  return text + fmt::format("\n#                (forward and backward, sequences of {})\n", format_count(seq_len));
}

std::string describe_batch(const Config& config) {
  const TrainConfig& train = config.train();
  const int64_t tokens = train.global_batch() * config.data().seq_len();
  return fmt::format("# tokens         {} per step ({} sequences of {}), {} in {} steps\n", format_count(tokens),
                     format_count(train.global_batch()), format_count(config.data().seq_len()),
                     format_count(tokens * train.steps()), format_count(train.steps()));
}

// The mesh as a table of comments.
std::string describe_mesh(const ParallelConfig& parallel, int ranks) {
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator world(0, simulated_nodes(ranks, parallel.ranks_per_node()), paper);
  const ProcessMesh mesh(mesh_sizes(parallel), world);
  std::string text = fmt::format("# mesh           {} ranks\n", ranks);
  std::istringstream table(mesh.describe());
  for (std::string line; std::getline(table, line);) text += "#   " + line + "\n";
  return text;
}

void print_config(const Options& options) {
  const ConfigArguments arguments = split_config_arguments(options.arguments);
  const LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  // A mesh to draw is one that the network splits over.
  validate(loaded, options.ranks > 0 ? ConfigUse::kStep : ConfigUse::kCount);
  const Config& config = loaded.config;
  // Before anything is printed: a rank count that does not fit is an answer of its own.
  const std::string mesh = options.ranks > 0 ? describe_mesh(config.parallel(), options.ranks) : "";
  fmt::print("{}\n{}{}{}{}", effective_config_text(loaded, Origins::kComment),
             describe_parameters(count_parameters(config.model())),
             describe_flops(config.model(), config.data().seq_len()), describe_batch(config), mesh);
}

}  // namespace

void add_config_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("config", kDescription);
  command.positional("config", options->arguments, "CONFIG... [key=value...]: config files, then overrides");
  command.option("--ranks", options->ranks, "Also check that the mesh fits this many ranks, and print it", {.low = 1});
  command.action([options] { print_config(*options); });
}

}  // namespace shoal
