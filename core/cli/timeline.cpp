// core/cli/timeline.cpp: `shoal timeline`: where the time of recorded steps went, as a table and as a picture.
#include <fmt/format.h>

#include <charconv>
#include <memory>
#include <string>
#include <vector>

#include "core/base/atomic_file.h"
#include "core/base/check.h"
#include "core/cli/commands.h"
#include "core/report/timeline_svg.h"

namespace shoal {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string svg;
  std::vector<std::string> titles;
  std::vector<std::string> ranks;
  int64_t step = 0;
  bool json = false;
};

constexpr const char* kDescription = R"(Where the time of recorded steps went: computing, waiting for the wire, idle.

  mpirun -np 2 --bind-to none shoal train configs/quickstart.textproto train.timeline.first_step=5 run.dir=runs/a
  shoal timeline runs/a/timeline.json
  shoal timeline runs/off/timeline.json runs/on/timeline.json --title "one lane" "two lanes" --svg overlap.svg

A run with train.timeline in its config writes RUN/timeline.json; https://ui.perfetto.dev opens it. Exposed is the time
in which a rank waited for the wire with no op under way; compute, exposed, data and idle add up to the step. --svg
draws one step of each file above each other, on one scale.)";

std::vector<int> numbers(const std::vector<std::string>& words) {
  std::vector<int> ranks;
  for (const std::string& word : words) {
    int rank = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), rank);
    if (error != std::errc() || end != word.data() + word.size() || rank < 0) {
      fail("--rank: '{}' is no rank; expected numbers from 0 on", word);
    }
    ranks.push_back(rank);
  }
  return ranks;
}

void show(const Options& options) {
  const std::vector<int> ranks = numbers(options.ranks);
  if (options.titles.size() > options.files.size()) {
    fail("--title has {} titles for {} file(s); give one for each file, in order", options.titles.size(),
         options.files.size());
  }
  std::vector<Timeline> timelines;
  for (const std::string& file : options.files) timelines.push_back(read_timeline(file));
  std::string text;
  if (options.json) {
    text = timeline_table_json(timelines, options.step, ranks) + "\n";
  } else {
    for (const Timeline& timeline : timelines) {
      text += (text.empty() ? "" : "\n") + timeline_table(timeline, options.step, ranks);
    }
  }
  if (!options.svg.empty()) {
    write_text_file(options.svg,
                    draw_timelines(timelines, {.step = options.step, .ranks = ranks, .titles = options.titles}));
  }
  fmt::print("{}", text);
}

}  // namespace

void add_timeline_command(Command shoal) {
  auto options = std::make_shared<Options>();
  Command command = shoal.subcommand("timeline", kDescription);
  command.positional("file", options->files, "FILE...: timeline.json of one run or several");
  command.option("--svg", options->svg, "Also draw a picture, to this file");
  command.option("--title", options->titles, "A title for each file in the picture; without: the files' names");
  command.option("--step", options->step, "Only this step; the picture's is the first recorded one if none is named",
                 {.low = 1});
  command.option("--rank", options->ranks, "Only these ranks");
  command.flag("--json", options->json, "Print one JSON array");
  command.action([options] { show(*options); });
}

}  // namespace shoal
