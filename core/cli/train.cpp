// core/cli/train.cpp: `shoal train`: a run from config files.
#include <fmt/format.h>

#include <memory>
#include <new>
#include <string>
#include <vector>

#include "core/base/out_of_memory.h"
#include "core/base/simulated_clock.h"
#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/config/print.h"
#include "core/config/validate.h"
#include "core/report/write_report.h"
#include "core/train/device_setup.h"
#include "core/train/memory_report.h"
#include "core/train/open_run.h"
#include "core/train/rehearsal.h"
#include "core/train/run_folder.h"
#include "core/train/step_prediction.h"
#include "core/train/trainer.h"
#include "core/train/watchdog.h"
#include "parallel/flight_recorder.h"
#include "parallel/link_emulator.h"
#include "parallel/simulated_communicator.h"

namespace shoal {

namespace {

struct Options {
  std::vector<std::string> arguments;
  bool dry_run = false;
  int ranks = 0;
  int rank = 0;
  std::string speeds_path;
};

constexpr const char* kDescription = R"(Train a model.

  mpirun -np 2 --bind-to none shoal train configs/quickstart.textproto train.steps=60 run.dir=runs/a
  shoal train configs/small.textproto --dry-run
  shoal train configs/models/deepseek_v3.textproto --dry-run --ranks 2048 --rank 1234 \
      parallel.expert=64 parallel.ranks_per_node=8 train.global_batch=2048 train.microbatch=1
  shoal train configs/quickstart.textproto --dry-run --ranks 2 --speeds speeds.json \
      parallel.expert=2 parallel.ranks_per_node=1 parallel.emulate.inter_node.gbit_per_s=1

Files are merged in order, later ones win; key=value sets one field. The run folder (run.dir) receives
metrics.jsonl (a line a step), tensorboard/, config.textproto, environment.json, report.html (`shoal report`), and
final/: the model, which `shoal generate` and `shoal evaluate` read; and checkpoints/, every checkpoint.every_steps
steps. The same command goes on from the newest good one (train.resume says otherwise), at any layout. USR2, and
train.stop_after_minutes, save after the step and end with exit code 85, "start me again", as scripts/supervise.sh does;
91: out of memory; 92: a rank was stuck or stopped; 2: a mistake in the command, the files or the machine; 1: anything
else, worth another start.

--bind-to none: Shoal divides the CPUs among the ranks and pins its threads itself; mpirun's default would give each
rank one.)";

std::vector<std::string> command_line(const Options& options) {
  std::vector<std::string> words{"shoal", "train"};
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  return words;
}

// A step on paper.
void run_dry(const Config& config, const SimulatedCluster& cluster, const std::string& speeds_path) {
  const int num_ranks = static_cast<int>(cluster.nodes.size());
  if (cluster.rank >= num_ranks) fail("--rank {} of {} ranks: they count from 0", cluster.rank, num_ranks);
  const DType compute = resolve_compute(config.precision());
  const MeshSizes sizes = mesh_sizes(config.parallel());
  SimulatedClock clock;
  const auto wire = std::make_shared<SimulatedWire>(cluster.links, cluster.ranks_on_node(), clock);
  Allocator paper(DeviceKind::kSimulated);
  SimulatedCommunicator world(cluster.rank, cluster.nodes, paper, wire);
  const DeviceKind device = expected_device(config.run().device());
  DryRun result = dry_run(config, ProcessMesh(sizes, world), paper, compute, device);
  result.busy_s[0] = wire->busy_s(LinkClass::kIntraNode);
  result.busy_s[1] = wire->busy_s(LinkClass::kInterNode);
  fmt::print("{}", describe(result));
  if (speeds_path.empty()) return;
  fmt::print("{}", describe(predict_step(config, sizes, cluster, compute, read_op_speeds(speeds_path), device)));
}

Trainer::End train(const Options& options, const LoadedConfig& loaded, const Job& job, const StopRequest& stop) {
  Trainer trainer(loaded.config, job.mesh(), job.allocator(), job.threads(),
                  {.config_text = effective_config_text(loaded, Origins::kOmit),
                   .command_line = command_line(options),
                   .stop = &stop,
                   .memory_bytes = job.memory_bytes()});
  return trainer.run();
}

// Once all that it had is free again.
[[noreturn]] void tell_out_of_memory(const Config& config, const Job& job, const std::string& refused) {
  const std::string needs = describe_shortage(config, job.mesh(), job.allocator().device(), job.memory_bytes());
  throw OutOfMemory(needs.empty() ? refused : refused + "\n" + needs);
}

// Whatever it reads, by the names that were given.
std::vector<std::string> files_read(const ConfigArguments& arguments, const Config& config) {
  std::vector<std::string> files = arguments.files;
  const DataConfig& data = config.data();
  if (data.has_tokenizer()) files.push_back(data.tokenizer());
  for (const auto* sources : {&data.train(), &data.validation()}) {
    for (const DataSource& source : *sources) {
      for (const char* ending : {"", ".bin", ".idx"}) files.push_back(source.prefix() + ending);  // each may be a link
    }
  }
  const MoeConfig& moe = config.model().moe();
  if (moe.routing() == MoeConfig::REPLAY) files.push_back(moe.replay_file());
  return files;
}

void run(const Options& options, MpiSession& session) {
  const ConfigArguments arguments = split_config_arguments(options.arguments);
  const LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  validate(loaded, options.dry_run ? ConfigUse::kStep : ConfigUse::kTrain);
  if (options.dry_run) {
    const ParallelConfig& parallel = loaded.config.parallel();
    std::vector<int> nodes = simulated_nodes(options.ranks, parallel.ranks_per_node());
    if (nodes.empty()) {  // the ranks that were started
      Allocator allocator(DeviceKind::kCpu);
      const auto world = session.world(allocator, {.ranks_per_node = parallel.ranks_per_node()});
      for (int rank = 0; rank < world->size(); ++rank) nodes.push_back(world->node(rank));
    }
    const EmulatedLinks links = emulated_links(parallel.emulate());
    if (parallel.has_emulate()) check_emulated_links(links, nodes);
    const SimulatedCluster cluster{.rank = options.rank, .nodes = std::move(nodes), .links = links.model()};
    if (session.rank() == 0) run_dry(loaded.config, cluster, options.speeds_path);
    return;
  }
  if (!options.speeds_path.empty()) fail("--speeds belongs to --dry-run: a run takes the time that it takes");
  if (options.ranks > 0 || options.rank > 0) fail("--ranks and --rank belong to --dry-run; mpirun -np N starts ranks");
  if (starts_anew(loaded.config)) check_move_keeps(loaded.config.run().dir(), files_read(arguments, loaded.config));
  const StopRequest stop(loaded.config.train());  // first: a signal while things are set up is not lost
  const Job job(session, loaded.config.parallel(), loaded.config.run());
  const Watchdog watchdog(session, job.world(), loaded.config.run());
  std::string refused;
  try {
    if (train(options, loaded, job, stop) == Trainer::End::kRequeue) session.set_exit_code(kRequeueExitCode);
  } catch (const OutOfMemory& error) {
    refused = error.what();
  } catch (const std::bad_alloc&) {
    refused = kRefusedByMachine;
  }
  if (!refused.empty()) tell_out_of_memory(loaded.config, job, refused);
  // As long as a save may take: the others wait, and the watchdog knows why.
  const PhaseScope phase(job.world(), Phase::kSave);
  if (job.speaks()) write_report_of_run(loaded.config.run().dir());
  wait(job.world().barrier());
}

}  // namespace

void add_train_command(Command shoal, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("train", kDescription);
  command.positional("config", options->arguments, "CONFIG... [key=value...]: config files, then overrides");
  command.flag("--dry-run", options->dry_run,
               "Print parameters, FLOPs per token and memory by category, found by running one step without "
               "storage; train nothing");
  command.option("--ranks", options->ranks,
                 "With --dry-run: as one of this many ranks, parallel.ranks_per_node on each node",
                 {.low = 0, .high = 1'000'000});
  command.option("--rank", options->rank, "With --dry-run: as this one", {.low = 0});
  command.option("--speeds", options->speeds_path,
                 "With --dry-run: how long a step takes, by this file of `shoal bench train --write-speeds`, on the "
                 "links of parallel.emulate");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
