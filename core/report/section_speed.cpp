// core/report/section_speed.cpp: tokens/s and MFU; where a step's time goes; what waits for the wire.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/report/views.h"

namespace shoal {

namespace {

constexpr size_t kMostStacks = 6;  // runs with areas of their own

std::string ms_text(double ms) { return std::isfinite(ms) ? short_number(ms) : "–"; }

Series area(const std::string& label, Points points, const std::string& colour) {
  return {.label = label, .points = std::move(points), .colour = colour, .mark = Mark::kArea};
}

std::string stacked(const std::string& title, std::vector<Series> areas) {
  // The axis is as high as the areas together.
  Points whole;
  for (const Series& series : areas) {
    if (whole.size() == 0) whole = series.points;
    else
      for (size_t i = 0; i < whole.size(); ++i) whole.y[i] += series.points.y[i];
  }
  Axis y = time_axis({area("", whole, "")});
  y.name += " a step";
  return draw({.title = title, .x = {.name = "step"}, .y = y, .series = std::move(areas), .events = {}});
}

std::string split_chart(const RunRecord& run, const std::string& prefix) {
  return stacked(prefix + "A step of the rank that waited longest",
                 {area("computing", by_step(run, [](const StepMetrics& m) { return m.compute_ms; }), "var(--work)"),
                  area("waiting for the wire", by_step(run, [](const StepMetrics& m) { return m.exposed_comm_ms; }),
                       "var(--wire0)"),
                  area("neither", by_step(run, [](const StepMetrics& m) { return m.idle_ms; }), "var(--idle)")});
}

std::string kinds_chart(const RunRecord& run, const std::string& prefix) {
  std::vector<Series> areas;
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
    const auto value = [kind](const StepMetrics& m) { return m.exposed_ms[kind]; };
    if (!(warm_mean(run, value) > 0)) continue;
    areas.push_back(area(std::string(kWireKindNames[kind]), by_step(run, value), fmt::format("var(--wire{})", kind)));
  }
  return stacked(prefix + "Exposed communication by kind", std::move(areas));
}

Table kinds_table(const std::vector<RunRecord>& runs) {
  Table table{.header = {"run", "step, ms", "computing, ms", "exposed, ms"}, .rows = {}, .rows_are_runs = true};
  for (const std::string_view kind : kWireKindNames) table.header.push_back(fmt::format("{}, ms", kind));
  table.header.push_back("sent between nodes");
  table.header.push_back("inside nodes");
  for (const RunRecord& run : runs) {
    std::vector<std::string>& row = table.rows.emplace_back();
    row = {run.name, ms_text(warm_mean(run, [](const StepMetrics& m) { return m.waiting_step_ms; })),
           ms_text(warm_mean(run, [](const StepMetrics& m) { return m.compute_ms; })),
           ms_text(warm_mean(run, [](const StepMetrics& m) { return m.exposed_comm_ms; }))};
    for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
      row.push_back(ms_text(warm_mean(run, [kind](const StepMetrics& m) { return m.exposed_ms[kind]; })));
    }
    row.push_back(bytes_text(warm_mean(run, [](const StepMetrics& m) { return m.inter_node_bytes; })));
    row.push_back(bytes_text(warm_mean(run, [](const StepMetrics& m) { return m.intra_node_bytes; })));
  }
  return table;
}

}  // namespace

std::string speed_section(const std::vector<RunRecord>& runs) {
  const auto speed = lines_of(runs, [](const RunRecord& run) {
    return by_step(run, [](const StepMetrics& m) { return m.tokens_per_s; });
  });
  const auto mfu = lines_of(runs, [](const RunRecord& run) {
    return by_step(run, [](const StepMetrics& m) { return m.mfu; });
  });
  std::string conventions;
  for (const RunRecord& run : runs) {
    if (!run.summary || run.summary->mfu_convention.empty()) continue;
    const std::string sentence = runs.size() > 1 ? fmt::format("{}: {}", run.name, run.summary->mfu_convention)
                                                 : run.summary->mfu_convention;
    conventions += note(sentence);
  }
  return section("speed", "Speed", "",
                 figures({draw({.title = "Tokens per second",
                                .x = {.name = "step"},
                                .y = {.name = "all ranks together", .from_zero = true},
                                .series = speed,
                                .events = {}}),
                          draw({.title = "MFU",
                                .x = {.name = "step"},
                                .y = {.name = "%", .divide_by = 0.01, .from_zero = true},
                                .series = mfu,
                                .events = {}})}) +
                     conventions);
}

std::string time_section(const std::vector<RunRecord>& runs) {
  std::vector<std::string> charts;
  if (runs.size() > 1) {
    charts.push_back(draw({.title = "Exposed communication",
                           .x = {.name = "step"},
                           .y = {.name = "% of a step", .divide_by = 0.01, .from_zero = true},
                           .series = lines_of(runs, [](const RunRecord& run) { return by_step(run, exposed_share); }),
                           .events = {}}));
  }
  for (size_t i = 0; i < std::min(runs.size(), kMostStacks); ++i) {
    const std::string prefix = runs.size() > 1 ? runs[i].name + ": " : "";
    if (runs.size() == 1) charts.push_back(split_chart(runs[i], prefix));
    charts.push_back(kinds_chart(runs[i], prefix));
  }
  return section("time", "Where the time goes",
                 "Exposed is the time in which the rank that waited longest waited for the wire, or for slower ranks, "
                 "with nothing to compute. Areas are means over neighbouring steps; the table has means of a step, "
                 "behind the first tenth.",
                 figures(charts) + html(kinds_table(runs)));
}

}  // namespace shoal
