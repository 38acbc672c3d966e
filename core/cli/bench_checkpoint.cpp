// core/cli/bench_checkpoint.cpp: `shoal bench checkpoint`: how fast state is saved and loaded, and what that costs.
#include "core/train/bench_checkpoint.h"

#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/config/validate.h"

namespace shoal {

namespace {

struct Options {
  std::vector<std::string> arguments;
  std::string folder = ".";
  int pairs = 5;
  int steps = 50;
  bool json = false;
};

constexpr const char* kDescription = R"(Time checkpoints: saving, loading, and what saving costs a run.

  mpirun -np 2 --bind-to none shoal bench checkpoint configs/quickstart.textproto --folder runs

The state of a run (masters and moments, on every rank its share) is saved and loaded beside plain files of as many
bytes. Then --steps steps on random tokens run with one save in the background and without, in turn, --pairs times. The
files lie in a folder of their own in --folder, and go again.)";

void run(const Options& options, MpiSession& session) {
  const ConfigArguments arguments = split_config_arguments(options.arguments);
  const LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  validate(loaded, ConfigUse::kStep);
  const Job job(session, loaded.config.parallel(), loaded.config.run());
  const DType compute = resolve_compute(loaded.config.precision(), job.allocator().device(), job.world());
  const CheckpointBench bench =
      bench_checkpoint(loaded.config, job.mesh(), job.allocator(), compute,
                       {.folder = options.folder, .pairs = options.pairs, .steps = options.steps});
  if (job.speaks()) fmt::print("{}\n", options.json ? to_json(bench) : describe(bench));
}

}  // namespace

void add_bench_checkpoint_command(Command bench, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command command = bench.subcommand("checkpoint", kDescription);
  command.positional("config", options->arguments, "CONFIG... [key=value...]");
  command.option("--folder", options->folder, "On the disk to measure; shared by all ranks");
  command.option("--pairs", options->pairs, "Blocks of steps with a save, and as many without", {.low = 1});
  command.option("--steps", options->steps, "Steps of a block: as many as from one save to the next", {.low = 1});
  command.flag("--json", options->json, "One JSON object");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
