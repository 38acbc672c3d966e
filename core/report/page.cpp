// core/report/page.cpp: title, links, sections.
#include "core/report/page.h"

#include <fmt/format.h>

#include <array>

#include "core/base/check.h"
#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/style.h"
#include "core/report/svg_text.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

constexpr size_t kMostProblems = 40;

std::string title_of(const std::vector<RunRecord>& runs) {
  std::string title;
  for (const RunRecord& run : runs) title += (title.empty() ? "" : ", ") + run.name;
  return title;
}

// "quickstart, 11,100,000 parameters · 2 ranks on host · begun 2026-11-27T10:51:27Z"
std::string subtitle_of(const RunRecord& run) {
  std::string text;
  const auto add = [&](const std::string& words) {
    if (!words.empty()) text += (text.empty() ? "" : " · ") + words;
  };
  if (run.summary) {
    add(fmt::format("{}, {} parameters, {} active", run.summary->model,
                    short_number(static_cast<double>(run.summary->parameters)),
                    short_number(static_cast<double>(run.summary->active_parameters))));
  } else if (run.config) {
    add(run.config->model().name());
  }
  if (run.ranks > 0) add(fmt::format("{} rank(s){}", run.ranks, run.host.empty() ? "" : " on " + run.host));
  if (!run.date.empty()) add("started " + run.date);
  return text;
}

std::string problems_of(const std::vector<RunRecord>& runs) {
  std::vector<std::string> all;
  for (const RunRecord& run : runs) {
    const std::string prefix = runs.size() > 1 ? run.name + ": " : "";
    for (const std::string& problem : run.problems) all.push_back(prefix + problem);
    for (const std::string& problem : run.metrics.problems) all.push_back(prefix + problem);
  }
  if (all.empty()) return "";
  std::string text = "<div class=\"problems\" id=\"problems\">\n";
  for (size_t i = 0; i < std::min(all.size(), kMostProblems); ++i) text += fmt::format("<p>{}</p>\n", escaped(all[i]));
  if (all.size() > kMostProblems) text += fmt::format("<p>and {} more</p>\n", all.size() - kMostProblems);
  return text + "</div>\n";
}

std::string header_of(const std::vector<RunRecord>& runs) {
  constexpr std::array<std::array<const char*, 2>, 11> kLinks{{{"loss", "Loss"},
                                                               {"schedule", "Schedule"},
                                                               {"speed", "Speed"},
                                                               {"time", "Time"},
                                                               {"experts", "Experts"},
                                                               {"memory", "Memory"},
                                                               {"fp8", "FP8"},
                                                               {"history", "Checkpoints and incidents"},
                                                               {"cost", "Cost"},
                                                               {"plan", "Plan"},
                                                               {"config", "Config"}}};
  std::string text = fmt::format("<header>\n<h1>{}</h1>\n", escaped(title_of(runs)));
  for (size_t i = 0; i < runs.size(); ++i) {
    const std::string mark = runs.size() > 1 ? swatch(i, runs.size()) + escaped(runs[i].name) + ": " : "";
    text += fmt::format("<p class=\"subtitle\">{}{}</p>\n", mark, escaped(subtitle_of(runs[i])));
  }
  text += "<nav>";
  for (const auto& [id, name] : kLinks) text += fmt::format("<a href=\"#{}\">{}</a>\n", id, name);
  return text + "</nav>\n</header>\n";
}

}  // namespace

std::string report_page(const std::vector<RunRecord>& runs, const std::string& produced) {
  SHOAL_CHECK(!runs.empty(), "a report of no runs");
  std::string page = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{} · Shoal</title>\n"
      "<style>{}</style>\n</head>\n<body>\n<main>\n",
      escaped(title_of(runs)), style_sheet());
  page += header_of(runs) + problems_of(runs);
  for (const auto make :
       {overview_section, loss_section, schedule_section, speed_section, time_section, experts_section, memory_section,
        fp8_section, history_section, cost_section, plan_section, config_section}) {
    page += make(runs);
  }
  page += fmt::format("<footer>Written by shoal report, {}.</footer>\n</main>\n</body>\n</html>\n", escaped(produced));
  return page;
}

std::string picture_of(const std::vector<RunRecord>& runs, Picture picture) {
  switch (picture) {
    case Picture::kLoss: return standalone_svg(draw(loss_chart(runs)));
    case Picture::kViolation: return standalone_svg(draw(violation_chart(runs)));
    case Picture::kLossDifference: break;
  }
  if (runs.size() < 2)
    fail("the difference of losses is one of several runs; expected at least two, found {}", runs.size());
  return standalone_svg(draw(loss_difference_chart(runs)));
}

}  // namespace shoal
