// core/cli/bench_kernels.cpp: `shoal bench kernels`: every op's speed beside what the device can do.
#include "core/train/bench_kernels.h"

#include <memory>

#include "core/base/cuda_backend.h"
#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/cli/line_report.h"

namespace shoal {

namespace {

struct Options {
  std::string device = "auto";
  std::string size = "full";
  BenchKernelsOptions bench;
  bool json = false;
};

constexpr const char* kDescription =
    R"(Time every op on one device, as a share of ceilings measured in the same run.

  shoal bench kernels --device cuda
  shoal bench kernels --filter quantize        only ops with this in their name
  shoal bench kernels --filter gemm --json

First the ceilings: a copy, and the best dense product of each precision that is asked for, through the same door as
the model's. Then the ops, on normal random numbers, medians of at least ten runs. GB/s counts every operand once, as
the op states it; of a product, FLOPs without what is computed again (attention: the causal half; backward is twice
forward). On a GPU times are the device's, and `host us` is what it takes to put an op on a queue that is kept busy:
where it exceeds an op's time, the host is what limits.)";

RunConfig run_on(const std::string& device) {
  RunConfig run;
  run.set_device(device == "cpu" ? RunConfig::CPU : device == "cuda" ? RunConfig::CUDA : RunConfig::DEVICE_AUTO);
  return run;
}

void run(const Options& options, MpiSession& session) {
  const Job job(session, ParallelConfig{}, run_on(options.device));
  if (job.world().size() > 1) fail("bench kernels measures one rank's device; start it without mpirun");
  Stream stream(job.allocator());
  LineReport report(job.speaks(), options.json);
  const std::string device = stream.device() == DeviceKind::kCuda
                                 ? describe_cuda_device(current_cuda_device()).name
                                 : fmt::format("{} CPU thread(s)", job.threads().num_threads);
  report.heading(device + "\n" + kernel_heading());
  const int failed = bench_kernels(stream, options.bench, [&](const KernelTime& time) { report.line(time); });
  report.end();
  if (failed > 0) fail("{} op(s) failed; their lines say why", failed);
}

}  // namespace

void add_bench_kernels_command(Command bench, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command kernels = bench.subcommand("kernels", kDescription);
  kernels.choice("--device", options->device, "Where to compute; auto: a GPU where there is one",
                 {"auto", "cpu", "cuda"});
  kernels.option("--filter", options->bench.filter, "Only ops with this in their name");
  kernels.option("--seconds", options->bench.seconds, "How long to time each op", {.low = 0});
  kernels.choice("--size", options->size, "small: to see that all ops run, not how fast", {"full", "small"});
  kernels.flag("--json", options->json, "One JSON array of all lines");
  kernels.action([options, &session] {
    options->bench.small = options->size == "small";
    run(*options, session);
  });
}

}  // namespace shoal
