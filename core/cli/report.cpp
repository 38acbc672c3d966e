// core/cli/report.cpp: `shoal report`: a run, or several, as one HTML page.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/cli/commands.h"
#include "core/report/write_report.h"
#include "core/train/progress.h"

namespace shoal {
namespace {

struct Options {
  std::vector<std::string> runs;
  std::string output;
  std::string svg;
  std::string chart = "loss";
};

const std::map<std::string, Picture> kCharts{
    {"loss", Picture::kLoss}, {"difference", Picture::kLossDifference}, {"violation", Picture::kViolation}};

constexpr const char* kDescription = R"(A run as one HTML page: curves, load of experts, memory, incidents, cost.

  shoal report runs/a                                    writes runs/a/report.html
  shoal report runs/a runs/b --output a_and_b.html       both over each other
  shoal report runs/a runs/b --svg loss.svg              their loss curves alone as well, as a picture
  shoal report runs/a runs/b --svg d.svg --chart difference   how far b's loss is from a's

The page needs no network and no scripts. `shoal train` writes RUN/report.html at the end of every start; this does so
for runs that are under way or were killed, and for several. Lines of metrics.jsonl that are broken are named and left
out. With run.usd_per_gpu_hour in the config it shows money; with RUN/plan.json the plan beside what was measured; with
RUN/ngram.json (`shoal ngram --json`) entropies beside the loss.)";

void report(const Options& options) {
  if (options.svg.empty() && options.chart != "loss") fail("--chart says what --svg draws; add --svg FILE");
  std::filesystem::path output = options.output;
  if (output.empty()) {
    output = std::filesystem::path(options.runs[0]) / (options.runs.size() == 1 ? kReportName : "comparison.html");
  }
  const WrittenReport written = write_report(options.runs, output);
  for (const std::string& problem : written.problems) spdlog::warn("{}", problem);
  fmt::print("wrote {} ({})\n", written.file.string(), format_bytes(written.bytes));
  if (options.svg.empty()) return;
  write_picture(options.runs, kCharts.at(options.chart), options.svg);
  fmt::print("wrote {}\n", options.svg);
}

}  // namespace

void add_report_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("report", kDescription);
  command.positional("RUN", options->runs, "RUN...: run folders");
  command.option("--output", options->output,
                 "The page; without: RUN/report.html, or comparison.html in the first of several");
  command.option("--svg", options->svg, "Also one chart alone, as a picture, to this file");
  command.choice("--chart", options->chart,
                 "Which one: losses, those of other runs less the first one's, or the load of the fullest expert",
                 {"loss", "difference", "violation"});
  command.action([options] { report(*options); });
}

}  // namespace shoal
