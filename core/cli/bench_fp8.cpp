// core/cli/bench_fp8.cpp: `shoal bench fp8`: what FP8 costs on this CPU, and what narrow accumulators lose.
#include "core/train/bench_fp8.h"

#include <memory>

#include "core/cli/commands.h"
#include "core/cli/job.h"
#include "core/cli/line_report.h"

namespace shoal {

namespace {

struct Options {
  double seconds = 0.3;
  bool sums = false;
  bool json = false;
};

constexpr const char* kDescription =
    R"(Time linear layers in FP8 beside bf16 on this rank's threads, or show what long sums lose.

  shoal bench fp8              forward and backward of typical layers, quantising included
  shoal bench fp8 --sums       errors of sums in f32, and in the 14 bits of FP8 tensor cores with and without promotion

On a CPU, FP8 is a numerical reference: products run in f32 on decoded codes, so it is slower than bf16.)";

void run(const Options& options, MpiSession& session) {
  const Job job(session, ParallelConfig{}, cpu_run());
  Stream stream(job.allocator());
  LineReport report(job.speaks(), options.json);
  if (options.sums) {
    report.heading("largest error of 64 x 64 sums, relative to a typical sum\n");
    report.heading(fmt::format("{:<9} {:>6} {:>14} {:>14} {:>14}\n", "numbers", "terms", "f32", "promoted", "narrow"));
    bench_sums(stream, [&](const SumError& error) { report.line(error); });
  } else {
    report.heading(fmt::format("forward and backward of a linear layer, {} thread(s)\n", job.threads().num_threads));
    report.heading(fmt::format("{:<18} {:>5} {:>6} {:>6} {:>9} {:>9} {:>9} {:>7}\n", "what", "rows", "out", "in",
                               "bf16 ms", "FP8 ms", "quantise", "ratio"));
    bench_linears(stream, options.seconds, [&](const LinearTime& time) { report.line(time); });
  }
  report.end();
}

}  // namespace

void add_bench_fp8_command(Command bench, MpiSession& session) {
  auto options = std::make_shared<Options>();
  Command fp8 = bench.subcommand("fp8", kDescription);
  fp8.option("--seconds", options->seconds, "How long to time each number", {.low = 0});
  fp8.flag("--sums", options->sums, "Errors of long sums instead of times");
  fp8.flag("--json", options->json, "One JSON array of all lines");
  fp8.action([options, &session] { run(*options, session); });
}

}  // namespace shoal
