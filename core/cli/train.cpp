// core/cli/train.cpp: `shoal train`: a run from config files.
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/config/print.h"
#include "core/config/validate.h"
#include "core/train/rehearsal.h"
#include "core/train/trainer.h"

namespace shoal {

namespace {

struct Options {
  std::vector<std::string> arguments;
  bool dry_run = false;
};

constexpr const char* kDescription = R"(Train a model.

  mpirun -np 2 --bind-to none shoal train configs/quickstart.textproto train.steps=60 run.dir=runs/a
  shoal train configs/small.textproto --dry-run

Files are merged in order, later ones win; key=value sets one field. The run folder (run.dir) receives
metrics.jsonl (a line a step), tensorboard/, config.textproto, environment.json, and final/: the model, which
`shoal generate` and `shoal evaluate` read. --bind-to none: Shoal divides the CPUs among the ranks and pins its threads
itself; mpirun's default would give each rank one.)";

std::vector<std::string> command_line(const Options& options) {
  std::vector<std::string> words{"shoal", "train"};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  return words;
}

void run(const Options& options, MpiSession& session) {
  const ConfigArguments arguments = split_config_arguments(options.arguments);
  const LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  validate(loaded, options.dry_run ? ConfigUse::kStep : ConfigUse::kTrain);
  const Job job(session, loaded.config.parallel(), loaded.config.run().threads(),
                options.dry_run ? DeviceKind::kSimulated : DeviceKind::kCpu);
  if (options.dry_run) {
    const DType compute = resolve_compute(loaded.config.precision());
    const DryRun result = dry_run(loaded.config, job.mesh(), job.allocator(), compute);
    if (job.speaks()) fmt::print("{}", describe(result));
    return;
  }
  Trainer trainer(
      loaded.config, job.mesh(), job.allocator(), job.threads(),
      {.config_text = effective_config_text(loaded, Origins::kOmit), .command_line = command_line(options)});
  trainer.run();
}

}  // namespace

void add_train_command(Command shoal, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("train", kDescription);
  command.positional("config", options->arguments, "CONFIG... [key=value...]: config files, then overrides");
  command.flag("--dry-run", options->dry_run,
               "Print parameters, FLOPs per token and memory by category, found by running one step without "
               "storage; train nothing");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
