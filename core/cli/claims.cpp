// core/cli/claims.cpp: `shoal claims`: published runs, planned and compared.
#include "core/plan/claims.h"

#include <fmt/format.h>

#include <cstdio>
#include <memory>
#include <string>

#include "core/cli/commands.h"
#include "core/config/load_published_runs.h"

namespace shoal {

namespace {

struct Options {
  std::string runs;
};

constexpr const char* kDescription = R"(What was published about the cost of training, again from configs.

  shoal claims configs/published/runs.textproto

Plans every run of the file, fits the efficiencies in the clusters' files to those that have role: FIT, and once more
without each of them; prints Markdown: claims, runs, factors. Where the files hold the fit, all factors are 1; else
multiply what they say by these, and write where they come from.)";

void run(const Options& options) {
  const PublishedRuns published = load_published_runs(options.runs);
  const Calibration calibration = calibrate(published);
  fmt::print("{}\n{}\n", calibration_table(published, calibration), factors_table(calibration));
  std::fflush(stdout);
  fmt::print("{}", claims_table(claims(calibration)));
}

}  // namespace

void add_claims_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("claims", kDescription);
  command.positional("runs", options->runs, "The published runs: configs/published/runs.textproto");
  command.action([options] { run(*options); });
}

}  // namespace shoal
