// core/report/section_speed.cpp: tokens/s and MFU; where a step's time goes; what waits for the wire.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/check.h"
#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/report/timeline_svg.h"
#include "core/report/views.h"

namespace shoal {

namespace {

constexpr size_t kMostStacks = 6;  // runs with areas of their own

std::string ms_text(double ms) { return std::isfinite(ms) ? short_number(ms) + " ms" : "–"; }

Series area(const std::string& label, Points points, const std::string& colour) {
  return {.label = label, .points = std::move(points), .colour = colour, .mark = Mark::kArea};
}

std::string stacked(const std::string& title, std::vector<Series> areas) {
  // The axis is as high as the areas together.
  Points whole;
  for (const Series& series : areas) {
    if (whole.size() == 0) whole = {.x = series.points.x, .y = std::vector<double>(series.points.size(), 0)};
    for (size_t i = 0; i < whole.size(); ++i) whole.y[i] += series.points.y[i];
  }
  Axis y = time_axis({area("", whole, "")});
  y.name += " a step";
  return draw_over_steps(title, std::move(y), std::move(areas));
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

// Of one recorded step.
std::string timeline_figure(const RunRecord& run) {
  if (!run.timeline) return "";
  try {
    return wide_figure(draw_timelines({*run.timeline}, {.titles = {run.name}}));
  } catch (const Error& error) {
    return note(error.what());
  }
}

// A row for each part of a step, a column for each run.
Table kinds_table(const std::vector<RunRecord>& runs) {
  Table table{.header = {"mean of a step"}, .rows = {}};
  for (const RunRecord& run : runs) table.header.push_back(run.name);
  const auto add = [&](const std::string& name, const StepValue& value, std::string (*text)(double)) {
    std::vector<std::string>& row = table.rows.emplace_back();
    row.push_back(name);
    for (const RunRecord& run : runs) row.push_back(text(warm_mean(run, value)));
  };
  const auto bytes = [](double value) { return bytes_text(value); };
  add(
      "the rank that waited longest", [](const StepMetrics& m) { return m.waiting_step_ms; }, ms_text);
  add(
      "computing", [](const StepMetrics& m) { return m.compute_ms; }, ms_text);
  add(
      "neither computing nor waiting", [](const StepMetrics& m) { return m.idle_ms; }, ms_text);
  add(
      "exposed communication", [](const StepMetrics& m) { return m.exposed_comm_ms; }, ms_text);
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
    add(
        fmt::format("· {}", kWireKindNames[kind]), [kind](const StepMetrics& m) { return m.exposed_ms[kind]; },
        ms_text);
  }
  add(
      "sent between nodes", [](const StepMetrics& m) { return static_cast<double>(m.inter_node_bytes); }, bytes);
  add(
      "sent inside nodes", [](const StepMetrics& m) { return static_cast<double>(m.intra_node_bytes); }, bytes);
  return table;
}

}  // namespace

std::string speed_section(const std::vector<RunRecord>& runs) {
  std::string conventions;
  for (const RunRecord& run : runs) {
    if (!run.summary || run.summary->mfu_convention.empty()) continue;
    const std::string sentence =
        runs.size() > 1 ? fmt::format("{}: {}", run.name, run.summary->mfu_convention) : run.summary->mfu_convention;
    conventions += note(sentence);
  }
  return section("speed", "Speed", "",
                 figures({draw_over_steps("Tokens per second", {.name = "all ranks together", .from_zero = true},
                                          lines_over_steps(runs, [](const StepMetrics& m) { return m.tokens_per_s; })),
                          draw_over_steps("MFU", {.name = "%", .divide_by = 0.01, .from_zero = true},
                                          lines_over_steps(runs, [](const StepMetrics& m) { return m.mfu; }))}) +
                     conventions);
}

std::string time_section(const std::vector<RunRecord>& runs) {
  std::vector<std::string> charts;
  if (runs.size() > 1) {
    charts.push_back(draw_over_steps("Exposed communication",
                                     {.name = "% of a step", .divide_by = 0.01, .from_zero = true},
                                     lines_over_steps(runs, exposed_share)));
  }
  for (size_t i = 0; i < std::min(runs.size(), kMostStacks); ++i) {
    const std::string prefix = runs.size() > 1 ? runs[i].name + ": " : "";
    if (runs.size() == 1) charts.push_back(split_chart(runs[i], prefix));
    charts.push_back(kinds_chart(runs[i], prefix));
  }
  std::string timelines;
  for (const RunRecord& run : runs) timelines += timeline_figure(run);
  return section("time", "Where the time goes",
                 "Exposed is the time in which the rank that waited longest waited for the wire, or for slower ranks, "
                 "with nothing to compute. Areas are means over neighbouring steps; the table has means of a step, "
                 "behind the first tenth.",
                 figures(charts) + html(kinds_table(runs)) + timelines);
}

}  // namespace shoal
