// core/cli/bench_overlap.cpp: `shoal bench overlap`: what each schedule hides, on links of several speeds.
#include "core/train/bench_overlap.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/config/validate.h"

namespace shoal {

namespace {

using Overlap = ParallelConfig::Overlap;

constexpr double kMaxLatencyUs = 1e9;
const std::vector<std::string> kRatios{"0.25", "0.5", "1", "2", "4"};

struct Options {
  std::vector<std::string> arguments;
  std::vector<std::string> ratios;  // none: kRatios, where no --gbit is given
  std::vector<std::string> gbit_per_s;
  int pairs = 5;
  double latency_us = 30;
  std::string timelines;
  bool real_links = false;
  bool json = false;
};

constexpr const char* kDescription =
    R"(Time the same training step with microbatches one by one and two together, on links of several speeds.

  mpirun -np 2 --bind-to core shoal bench overlap examples/overlap/moe.textproto --ratios 0.5 1 2
  mpirun -np 2 --bind-to core shoal bench overlap examples/overlap/moe.textproto --real-links

A step's compute is measured first, on endlessly fast links. Then the links between nodes are slowed (parallel.emulate)
until the step's bytes take --ratios times as long as its compute; each rank is a node, unless parallel.ranks_per_node
says otherwise. On each link all schedules run a step in turn, --pairs times; medians are printed. "/ max" is the step
over the larger of compute and wire: 1 is perfect overlap. Compute is a step of one lane on endless links, of which it
waits "waits" for the slower rank at exchanges; it is timed anew before every turn, and so are ops, one by one, for the
step on paper ("simulated"). --real-links measures on the links that are there.)";

std::vector<double> numbers(const std::string& option, const std::vector<std::string>& words) {
  std::vector<double> values;
  for (const std::string& word : words) {
    double value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (error != std::errc() || end != word.data() + word.size() || !(value > 0)) {
      fail("{} takes numbers above 0, such as 0.5 1 2, not '{}'", option, word);
    }
    values.push_back(value);
  }
  return values;
}

// What would be set for nothing.
void check_flags(const Options& options) {
  if (!options.gbit_per_s.empty() && !options.ratios.empty()) {
    fail("--gbit and --ratios both say how fast the links are; give one of them");
  }
  if (options.real_links && (!options.gbit_per_s.empty() || !options.ratios.empty())) {
    fail("--real-links measures on the links that are there; leave out --gbit and --ratios, which set emulated ones");
  }
}

void run(const Options& given, MpiSession& session) {
  check_flags(given);
  Options options = given;
  if (options.ratios.empty() && options.gbit_per_s.empty()) options.ratios = kRatios;
  const ConfigArguments arguments = split_config_arguments(options.arguments);
  LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  ParallelConfig& parallel = *loaded.config.mutable_parallel();
  if (!options.timelines.empty()) {
    const std::vector<double> ratios = numbers("--ratios", options.ratios);
    if (options.real_links || !options.gbit_per_s.empty() || std::ranges::count(ratios, 1.0) == 0) {
      fail("--timelines records the link on which wire and compute are as long; give --ratios with a 1 among them");
    }
    std::error_code error;
    std::filesystem::create_directories(options.timelines, error);
    if (error) fail("--timelines: the folder '{}' cannot be made: {}", options.timelines, error.message());
  }
  if (parallel.has_emulate()) {
    fail(
        "bench overlap emulates links of its own (--ratios or --gbit, --latency-us), or none (--real-links); remove "
        "parallel.emulate from the config");
  }
  if (!(options.latency_us >= 0 && options.latency_us <= kMaxLatencyUs)) {
    fail("--latency-us is {}; expected 0 to {:g} microseconds", options.latency_us, kMaxLatencyUs);
  }
  if (parallel.gradient_reduction() == ParallelConfig::EACH_MICROBATCH) {
    fail(
        "bench overlap runs two microbatches together, which parallel.gradient_reduction EACH_MICROBATCH rules out; "
        "set it to EACH_STEP");
  }
  if (!options.real_links) {
    if (parallel.ranks_per_node() == 0) parallel.set_ranks_per_node(1);
    parallel.mutable_emulate()->mutable_inter_node();
    if (parallel.ranks_per_node() > 1) parallel.mutable_emulate()->mutable_intra_node();
  }
  parallel.set_overlap(Overlap::PAIR_FORWARD);  // what cannot be paired is refused
  validate(loaded, ConfigUse::kStep);
  if (session.size() == 1) {
    fail("bench overlap needs ranks that send to each other; start two or more: mpirun -np 2 --bind-to core shoal …");
  }
  const Job job(session, parallel, loaded.config.run());
  OverlapBenchOptions bench{.ratios = {},
                            .bytes_per_s = {},
                            .pairs = options.pairs,
                            .latency_us = options.latency_us,
                            .timelines = options.timelines,
                            .schedules = {Overlap::OFF, Overlap::PAIR_FORWARD, Overlap::PAIR_FORWARD_BACKWARD},
                            .set_links = {}};
  if (!options.real_links) {
    if (options.gbit_per_s.empty()) bench.ratios = numbers("--ratios", options.ratios);
    for (const double gbit : numbers("--gbit", options.gbit_per_s)) bench.bytes_per_s.push_back(gbit * 1e9 / 8);
    bench.set_links = [&](double bytes_per_s, double latency_s) { job.set_inter_node_link({bytes_per_s, latency_s}); };
  }
  if (!options.real_links && job.world().node(0) == job.world().node(job.world().size() - 1)) {
    fail("parallel.ranks_per_node is {}, so all {} ranks are on one node and no link between nodes is used; lower it",
         parallel.ranks_per_node(), job.world().size());
  }
  const DType compute = resolve_compute(loaded.config.precision(), job.allocator().device(), job.world());
  const OverlapBench result = bench_overlap(loaded.config, job.mesh(), job.allocator(), compute, bench);
  if (job.speaks()) fmt::print("{}\n", options.json ? to_json(result) : describe(result));
}

}  // namespace

void add_bench_overlap_command(Command bench, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command command = bench.subcommand("overlap", kDescription);
  command.positional("config", options->arguments, "CONFIG... [key=value...]");
  command.option("--ratios", options->ratios, "Wire over compute, one link each (0.25 0.5 1 2 4)");
  command.option("--gbit", options->gbit_per_s, "Links of these speeds instead, in Gbit/s one way");
  command.option("--pairs", options->pairs, "Steps of every schedule on every link", {.low = 1});
  command.option("--latency-us", options->latency_us, "Of the emulated links, from posting to the first byte");
  command.option("--timelines", options->timelines,
                 "A folder for the timeline of one step of every schedule where wire and compute are as long");
  command.flag("--real-links", options->real_links, "Emulate nothing");
  command.flag("--json", options->json, "One JSON object");
  command.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
