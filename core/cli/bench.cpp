// core/cli/bench.cpp: `shoal bench`: how fast this machine is, and how much of that a training step uses.
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/config/load.h"
#include "core/config/validate.h"
#include "core/plan/measured_cluster.h"
#include "core/train/bench_train.h"
#include "core/train/gemm_peak.h"
#include "kernels/gemm_bench.h"

namespace shoal {

namespace {

struct Options {
  std::vector<std::string> arguments;
  int steps = 8;
  bool json = false;
  std::string speeds_path;
  std::string cluster_path;
};

constexpr const char* kTrainDescription =
    R"(Time training steps on random tokens, beside the packed GEMM rate (1024^3 on CPUs, 8192^3 on GPUs).

  shoal bench train configs/dense_124m.textproto
  mpirun -np 2 --bind-to none shoal bench train configs/quickstart.textproto --json

The numerator is the closed form of the model's FLOPs (causal), the denominator is measured between the steps on the
same ranks and threads; both are medians. A profile by op follows, from one more step.

With --write-speeds as many steps again are run with every op timed, one microbatch at a time and on links as they are,
for `shoal train --dry-run --speeds FILE`, which tells how long a step takes on other links and layouts.
--write-cluster writes the same, and how fast messages go from rank to rank, as a cluster for `shoal plan --cluster`:

  mpirun -np 2 --bind-to none shoal bench train CONFIG... --write-cluster here.textproto
  shoal plan CONFIG... --cluster here.textproto cluster.num_nodes=2 cluster.gpus_per_node=1 \
      cluster.network.gbyte_per_s=0.125 cluster.network.latency_us=30)";

// Two sizes tell latency and bandwidth.
std::vector<VerbTime> time_links(const Job& job) {
  if (job.allocator().device() != DeviceKind::kCpu) {
    fail(
        "--write-cluster measures links between CPUs; with run.device CUDA write the ops with --write-speeds, or "
        "describe the GPUs by a cluster of configs/clusters");
  }
  if (job.world().size() == 1) return {};
  constexpr int64_t kSmall = 1 << 10, kLarge = 4 << 20;
  return bench_verbs(job.world(), job.allocator(),
                     {.min_bytes = kSmall, .max_bytes = kLarge, .factor = kLarge / kSmall, .seconds = 0.2});
}

void run_train(const Options& options, MpiSession& session) {
  const ConfigArguments arguments = split_config_arguments(options.arguments);
  LoadedConfig loaded = load_config(arguments.files, arguments.overrides);
  validate(loaded, ConfigUse::kStep);
  const bool writes_cluster = !options.cluster_path.empty();
  const bool writes_speeds = !options.speeds_path.empty() || writes_cluster;
  if (writes_speeds) {
    loaded.config.mutable_parallel()->clear_emulate();
    loaded.config.mutable_parallel()->set_overlap(ParallelConfig::Overlap::OFF);
  }
  const Job job(session, loaded.config.parallel(), loaded.config.run());
  const BenchTrain bench =
      bench_train(loaded.config, job.mesh(), job.allocator(),
                  resolve_compute(loaded.config.precision(), job.allocator().device(), job.world()), options.steps,
                  writes_speeds ? options.steps : 0);
  const std::vector<VerbTime> links = writes_cluster ? time_links(job) : std::vector<VerbTime>{};
  if (!job.speaks()) return;
  fmt::print("{}\n", options.json ? to_json(bench) : describe(bench));
  if (!options.speeds_path.empty()) write_text_file(options.speeds_path, to_json(bench.speeds));
  if (writes_cluster) {
    write_text_file(options.cluster_path, to_text(measured_cluster(bench, links, job.memory_bytes())));
  }
}

struct GemmShape {
  const char* what;
  int64_t m, n, k;
};

// Square, a 124M model's layers and head, the quickstart's experts.
constexpr GemmShape kGemmShapes[] = {{"ceiling", 1024, 1024, 1024},    {"qkv 124M", 1024, 2304, 768},
                                     {"ffn up 124M", 1024, 4096, 768}, {"ffn down 124M", 1024, 768, 2048},
                                     {"head 124M", 512, 50257, 768},   {"expert up", 256, 512, 256},
                                     {"expert down", 256, 256, 256},   {"expert, few rows", 32, 512, 256}};

void run_gemm(const Options& options, MpiSession& session) {
  const Job job(session, ParallelConfig{}, cpu_run());
  Allocator allocator(DeviceKind::kCpu);
  Stream stream(allocator);
  std::vector<DType> dtypes{DType::kF32};
  if (cpu_has_fast_bf16()) dtypes.insert(dtypes.begin(), DType::kBF16);
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  if (!options.json && job.speaks()) {
    fmt::print("packed GEMM, y = x W^T, {} thread(s)\n{:<18} {:>5} {:>6} {:>6} {:>5} {:>10}\n",
               job.threads().num_threads, "what", "rows", "out", "in", "dtype", "GFLOP/s");
  }
  for (const GemmShape& shape : kGemmShapes) {
    for (const DType dtype : dtypes) {
      const double rate = measure_gemm_flops_per_s(dtype, shape.m, shape.n, shape.k, stream, 0.3) * 1e-9;
      if (!job.speaks()) continue;
      if (!options.json) {
        fmt::print("{:<18} {:>5} {:>6} {:>6} {:>5} {:>10.1f}\n", shape.what, shape.m, shape.n, shape.k, name_of(dtype),
                   rate);
      }
      rows.push_back({{"what", shape.what},
                      {"rows", shape.m},
                      {"out", shape.n},
                      {"in", shape.k},
                      {"dtype", std::string(name_of(dtype))},
                      {"gflops", rate}});
    }
  }
  if (options.json && job.speaks()) fmt::print("{}\n", rows.dump());
}

}  // namespace

void add_bench_command(Command shoal, MpiSession& session) {
  Command bench = shoal.subcommand("bench", "Measure this machine: GEMMs, communication, or whole training steps.");

  auto train_options = std::make_shared<Options>();
  Command train = bench.subcommand("train", kTrainDescription);
  train.positional("config", train_options->arguments, "CONFIG... [key=value...]");
  train.option("--steps", train_options->steps, "Timed steps, after two to warm up", {.low = 1});
  train.flag("--json", train_options->json, "One JSON object");
  train.option("--write-speeds", train_options->speeds_path, "Write the seconds of ops to this file");
  train.option("--write-cluster", train_options->cluster_path,
               "Write this machine as a cluster of one node, a rank each GPU, to this file");
  train.action([train_options, &session] { run_train(*train_options, session); });

  auto gemm_options = std::make_shared<Options>();
  Command gemm = bench.subcommand("gemm", "Time packed GEMMs of typical shapes on this rank's threads.");
  gemm.flag("--json", gemm_options->json, "A JSON array");
  gemm.action([gemm_options, &session] { run_gemm(*gemm_options, session); });

  add_bench_checkpoint_command(bench, session);
  add_bench_comm_command(bench, session);
  add_bench_fp8_command(bench, session);
  add_bench_kernels_command(bench, session);
  add_bench_overlap_command(bench, session);
}

}  // namespace shoal
