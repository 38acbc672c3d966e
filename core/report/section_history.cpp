// core/report/section_history.cpp: checkpoints, incidents, cost, and the plan beside what came of it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/html.h"
#include "core/report/sections.h"
#include "core/report/svg_text.h"
#include "core/report/views.h"
#include "core/train/progress.h"

namespace shoal {

namespace {

std::string checkpoints_of(const RunRecord& run) {
  if (run.checkpoints.empty()) {
    return note(run.has_final ? "No checkpoint is left; final/ holds the model." : "No checkpoint.");
  }
  Table table{.header = {"checkpoint", "written", "tokens", "size", "ranks", "state"}, .rows = {}, .text_columns = {5}};
  for (const CheckpointRow& row : run.checkpoints) {
    const bool opens = row.problem.empty();
    table.rows.push_back({fmt::format("step-{}", row.step), utc_text(row.unix_s),
                          opens ? short_number(static_cast<double>(row.tokens)) : "–",
                          opens ? format_bytes(row.bytes) : "–", opens ? fmt::format("{}", row.ranks) : "–",
                          opens ? "opens" : row.problem});
  }
  std::string text = html(table);
  if (run.checkpoints_aside > 0) {
    text += note(fmt::format("{} more were moved aside: they came after a step that the run went back to.",
                             run.checkpoints_aside));
  }
  return text;
}

std::string incidents_table(const RunRecord& run) {
  constexpr size_t kMostRows = 500;
  const std::vector<Incident> incidents = incidents_of(run);
  if (incidents.empty()) return note("No incident: every step updated the weights, in one start.");
  Table table{.header = {"step", "tokens", "when", "incident"}, .rows = {}, .text_columns = {3}};
  for (size_t i = 0; i < std::min(incidents.size(), kMostRows); ++i) {
    const Incident& one = incidents[i];
    table.rows.push_back(
        {fmt::format("{}", one.step), short_number(static_cast<double>(one.tokens)), utc_text(one.unix_s), one.what});
  }
  std::string text = html(table);
  if (incidents.size() > kMostRows) text += note(fmt::format("and {} more", incidents.size() - kMostRows));
  return text;
}

std::string hours_text(double hours) { return std::isfinite(hours) ? short_number(hours) : "–"; }

// "0.123 h · $0.25"
std::string with_money(double hours, const RunCost& cost) {
  if (!(cost.usd_per_hour > 0)) return hours_text(hours);
  return fmt::format("{} · {}", hours_text(hours), usd_text(hours * cost.usd_per_hour));
}

// "+3.2 %": of measured against planned.
std::string difference(double planned, double measured) {
  const double relative = measured / planned - 1;
  return std::isfinite(relative) ? fmt::format("{:+.1f} %", 100 * relative) : "–";
}

Table plan_table(const RunRecord& run) {
  const RunPlan& plan = *run.plan;
  Table table{.header = {run.name, "planned", "measured", "difference"}, .rows = {}};
  const auto add = [&](const std::string& name, double planned, double measured, std::string (*text)(double)) {
    if (!std::isfinite(planned)) return;
    table.rows.push_back(
        {name, text(planned), std::isfinite(measured) ? text(measured) : "–", difference(planned, measured)});
  };
  const auto ms = [](double value) { return short_number(value) + " ms"; };
  const auto median_of = [&](const StepValue& value) { return warm_median(run, value); };
  const RunCost cost = cost_of(run);
  add("step", plan.step_s * 1e3, median_of([](const StepMetrics& m) { return m.step_ms; }), ms);
  add("tokens/s", plan.tokens_per_s, median_of([](const StepMetrics& m) { return m.tokens_per_s; }), short_number);
  add("MFU, each of its own peak", plan.mfu, median_of([](const StepMetrics& m) { return m.mfu; }), percent);
  add("computing", plan.compute_s * 1e3, median_of([](const StepMetrics& m) { return m.compute_ms; }), ms);
  add("exposed communication", plan.exposed_total_s * 1e3,
      median_of([](const StepMetrics& m) { return m.exposed_comm_ms; }), ms);
  for (size_t kind = 0; kind < kNumWireKinds; ++kind) {
    add(fmt::format("· {}", kWireKindNames[kind]), plan.exposed_s[kind] * 1e3,
        median_of([kind](const StepMetrics& m) { return m.exposed_ms[kind]; }), ms);
  }
  const double peak = run.last() != nullptr ? static_cast<double>(run.last()->peak_memory_bytes) : NAN;
  add("peak memory", plan.memory_bytes, peak, bytes_text);
  add("hours of the whole run", plan.gpu_hours, cost.whole_hours, short_number);
  add("cost of the whole run", plan.usd, cost.usd_per_hour > 0 ? cost.whole_hours * cost.usd_per_hour : NAN, usd_text);
  return table;
}

}  // namespace

std::string history_section(const std::vector<RunRecord>& runs) {
  std::string inside;
  for (size_t i = 0; i < runs.size(); ++i) {
    if (runs.size() > 1) inside += fmt::format("<h3>{}{}</h3>\n", swatch(i, runs.size()), escaped(runs[i].name));
    inside += checkpoints_of(runs[i]) + incidents_table(runs[i]);
  }
  return section("history", "Checkpoints and incidents", "", inside);
}

std::string cost_section(const std::vector<RunRecord>& runs) {
  const std::string hours = hours_name(runs);
  Table table{.header = {"run", hours + " so far", "in steps that count", "in steps done again", "per T tokens",
                         "of the whole run"},
              .rows = {},
              .rows_are_runs = true};
  bool steps_alone = false, has_money = false;
  for (const RunRecord& run : runs) {
    const RunCost cost = cost_of(run);
    steps_alone = steps_alone || (cost.steps_alone && run.last() != nullptr);
    has_money = has_money || cost.usd_per_hour > 0;
    table.rows.push_back({run.name, with_money(cost.hours, cost), with_money(cost.step_hours, cost),
                          with_money(cost.repeated_hours, cost), with_money(cost.hours_per_t, cost),
                          with_money(cost.whole_hours, cost)});
  }
  std::string notes;
  if (steps_alone) notes += note("Records of an older version: hours outside steps are not known, and not counted.");
  if (!has_money) notes += note("No money: run.usd_per_gpu_hour is 0.");
  const std::string one = hours == "GPU-hours" ? "Ranks × hours, a GPU each" : "Ranks × hours";
  return section("cost", "Cost",
                 one +
                     ", over all starts, from the start of a job to its last record: set-up, validation and saves "
                     "included. Per T tokens: per 10¹² tokens, at the cost so far. Of the whole run: the rest at the "
                     "median speed.",
                 html(table) + notes);
}

std::string plan_section(const std::vector<RunRecord>& runs) {
  std::string inside;
  for (const RunRecord& run : runs) {
    if (run.plan) inside += html(plan_table(run));
  }
  if (inside.empty()) inside = note("No plan.json in the run's folder; memory is compared above.");
  return section("plan", "Plan and measurement", "Measured: medians behind the first tenth of the steps.", inside);
}

}  // namespace shoal
