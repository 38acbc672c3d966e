// core/cli/bench_comm.cpp: `shoal bench comm`: how fast ranks talk, verb by verb, and how fast tokens reach experts.
#include "core/train/bench_comm.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/cli/line_report.h"
#include "core/config/load.h"
#include "core/config/validate.h"
#include "core/train/bench_dispatch.h"
#include "core/train/model_runtime.h"

namespace shoal {

namespace {

struct Options {
  std::vector<std::string> arguments;
  BenchCommOptions measure;
  bool json = false;
};

constexpr const char* kDescription = R"(Time every verb of the communicator, then MoE dispatch and combine.

  mpirun -np 4 --bind-to none shoal bench comm
  mpirun -np 4 --bind-to none shoal bench comm --min-bytes 1048576 --max-bytes 67108864 --factor 2
  mpirun -np 4 --bind-to none shoal bench comm parallel.ranks_per_node=2 model.moe.topk=4
  mpirun -np 8 --bind-to none shoal bench comm configs/models/olmoe_1b_7b.textproto parallel.expert=8 --json

One line a verb and size over all ranks, as nccl-tests has them: time, algorithm and bus bandwidth, and how many
elements of the result were wrong. Then TokenExchange over the config's mesh: direct, and hierarchical where the expert
ranks lie on several nodes, at least 2 on each (parallel.ranks_per_node=N pretends that a node holds N).

Without CONFIG the MoE block is hidden 1024, top-8 of 32 experts, split over all ranks, 512 tokens a rank; key=value
changes it: model.hidden, model.moe.num_experts, model.moe.topk, data.seq_len (the tokens), precision.compute, ….)";

// Hidden, topk and tokens are what is meant; the rest is what a model must have.
constexpr const char* kDefaultConfig = R"(
model { vocab: 1024 hidden: 1024 layers: 1 ffn: 1024 attention { heads: 8 } moe { topk: 8 ffn: 1024 } }
data { seq_len: 512 }
train { microbatch: 1 })";

LoadedConfig load(const std::vector<std::string>& words, int num_ranks) {
  const ConfigArguments arguments = split_config_arguments(words);
  if (!arguments.files.empty()) return load_config(arguments.files, arguments.overrides);
  LoadedConfig loaded = parse_config(kDefaultConfig, "without CONFIG", arguments.overrides);
  ParallelConfig& parallel = *loaded.config.mutable_parallel();
  if (!parallel.has_expert()) parallel.set_expert(num_ranks / std::clamp(parallel.expert_tensor(), 1, num_ranks));
  MoeConfig& moe = *loaded.config.mutable_model()->mutable_moe();
  if (!moe.has_num_experts()) {
    // On 3 ranks 33 experts: as many on each.
    const int64_t split = std::max(1, parallel.expert());
    moe.set_num_experts((32 + split - 1) / split * split);
  }
  return loaded;
}

void run(const Options& options, MpiSession& session) {
  if (options.measure.max_bytes < options.measure.min_bytes) {
    fail("--max-bytes ({}) is less than --min-bytes ({}); there would be no size to measure", options.measure.max_bytes,
         options.measure.min_bytes);
  }
  const LoadedConfig loaded = load(options.arguments, session.size());
  validate(loaded, ConfigUse::kCount);
  const Config& config = loaded.config;
  RunConfig on_cpu = config.run();
  on_cpu.set_device(RunConfig::CPU);  // messages of host memory are what is measured
  const Job job(session, config.parallel(), on_cpu);
  LineReport report(job.speaks(), options.json);
  report.heading(verb_heading(job.world()));
  bench_verbs(job.world(), job.allocator(), options.measure, [&](const VerbTime& time) { report.line(time); });
  if (config.model().has_moe()) {
    const DispatchShape shape = dispatch_shape(config, job.mesh(), resolve_compute(config.precision()));
    report.heading("\n" + dispatch_heading(shape, job.mesh()));
    bench_dispatch(shape, job.mesh(), job.allocator(), options.measure.seconds,
                   [&](const DispatchTime& time) { report.line(time); });
  } else {
    report.heading("\nThe config has no model.moe, so there is no dispatch to measure.\n");
  }
  report.end();
}

}  // namespace

void add_bench_comm_command(Command bench, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command comm = bench.subcommand("comm", kDescription);
  comm.positional("config", options->arguments, "[CONFIG...] [key=value...]", Need::kOptional);
  comm.option("--min-bytes", options->measure.min_bytes, "The smallest message of a rank", {.low = 1});
  comm.option("--max-bytes", options->measure.max_bytes, "The largest", {.low = 1});
  comm.option("--factor", options->measure.factor, "From one size to the next", {.low = 2, .high = 1024});
  comm.option("--seconds", options->measure.seconds, "How long to time each line", {.low = 0});
  comm.flag("--json", options->json, "One JSON array of all lines");
  comm.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
